"""Codes -1, 0, 1 in fewer bits than a byte each, in the two ways of the record of 2026-03-24, byte for byte.

    base3:    digit = code + 1, five to a byte, the first one least: sum of digit_i 3^i; the last byte filled with 0
    bitmask:  a bit for each code, set where it is not 0; then a bit for each that is not 0, set where it is +1;
              the highest bit of a byte first, each of the two parts filled up to whole bytes

The record packs all matrices in the way whose LZMA file is smaller. Here a packing may be left open: the packer
(golf/codec/artifact.py) tries both, and one code per byte, with the codec of the file, and keeps the fewest bytes.
A row is filled up with zeros to whole groups.
Invariant: unpacking returns exactly the codes that were packed, and refuses bytes that no packing makes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.formats import QuantFormat, ternary_groups
from golf.quant.rtn import QuantisedTensor, cells_of, cells_to_shape, quantise_rows

PLACE_VALUES = (1, 3, 9, 27, 81)
TERNARY_PACKINGS = ("base3", "bitmask")


def pack_base3(codes: Tensor) -> Tensor:
    """Codes in any shape to uint8 [ceil(n / 5)]."""
    digits = codes.detach().cpu().reshape(-1).numpy().astype(np.uint8) + np.uint8(1)
    filled = np.zeros(-(-len(digits) // 5) * 5, dtype=np.uint8)
    filled[: len(digits)] = digits
    return torch.from_numpy((filled.reshape(-1, 5) * np.array(PLACE_VALUES, np.uint8)).sum(axis=1, dtype=np.uint8))


def unpack_base3(packed: Tensor, count: int) -> Tensor:
    """`count` codes, int8.

    Raises:
        ValueError: another number of bytes, a byte above 242, or digits after the last code.
    """
    values = packed.detach().cpu().numpy()
    if values.ndim != 1 or values.dtype != np.uint8 or len(values) != -(-count // 5) or (values >= 243).any():
        raise ValueError("bytes that are not base 3")
    digits = (values[:, None] // np.array(PLACE_VALUES, np.uint8) % np.uint8(3)).reshape(-1)
    if digits[count:].any():
        raise ValueError("digits after the last code")
    return torch.from_numpy(digits[:count].astype(np.int8) - np.int8(1))


def pack_bitmask(codes: Tensor) -> Tensor:
    """Codes in any shape to uint8 [ceil(n / 8) + ceil(non-zeros / 8)]."""
    flat = codes.detach().cpu().reshape(-1).numpy()
    parts = (np.packbits(flat != 0), np.packbits(flat[flat != 0] > 0))
    return torch.from_numpy(np.concatenate(parts))


def unpack_bitmask(packed: Tensor, count: int) -> Tensor:
    """`count` codes, int8.

    Raises:
        ValueError: another number of bytes than the mask asks for, or bits after the last one.
    """
    values = packed.detach().cpu().numpy()
    middle = -(-count // 8)
    if values.ndim != 1 or values.dtype != np.uint8 or len(values) < middle:
        raise ValueError("bytes that are not a mask")
    mask = np.unpackbits(values[:middle])
    signs = np.unpackbits(values[middle:])
    used = int(mask.sum())
    if mask[count:].any() or len(values) != middle + -(-used // 8) or signs[used:].any():
        raise ValueError("a mask that does not fit its signs")
    codes = mask[:count].astype(np.int8)
    codes[codes != 0] = signs[:used].astype(np.int8) * np.int8(2) - np.int8(1)
    return torch.from_numpy(codes)


TERNARY_PACKERS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, int], Tensor]]] = {
    "base3": (pack_base3, unpack_base3),
    "bitmask": (pack_bitmask, unpack_bitmask),
}


@dataclass(frozen=True)
class PackedTernaryTensor:
    """A ternary matrix as packed bytes, in which its rows are filled up to whole groups.

    `open`: which packing is the packer's choice.
    """

    packed: Tensor
    scales: Tensor
    packing: str
    shape: tuple[int, ...]
    format: QuantFormat
    original_dtype: str
    open: bool = False

    kind: ClassVar[str] = "ternary"

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.packed, "scales": self.scales}

    def meta(self) -> dict[str, Any]:
        unpacked = QuantisedTensor(self.packed, self.scales, self.format, self.original_dtype)
        choice = {"open": True} if self.open else {}
        return {**unpacked.meta(), **choice, "packing": self.packing, "shape": list(self.shape)}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "PackedTernaryTensor":
        rest = dict(meta)
        packing, shape, is_open = rest.pop("packing"), tuple(rest.pop("shape")), rest.pop("open", False)
        if (
            packing not in TERNARY_PACKINGS
            or type(is_open) is not bool
            or any(type(size) is not int or not 0 <= size < 2**31 for size in shape)
        ):
            raise ValueError("not a packed ternary tensor")
        if prod(shape) > 8 * parts["codes"].numel():
            raise ValueError("fewer bytes than its shape needs")
        checked = QuantisedTensor.from_parts(rest, {**parts, "codes": torch.zeros(shape, dtype=torch.int8)})
        if checked.format.padded(shape) > 8 * parts["codes"].numel():
            raise ValueError("fewer bytes than its groups need")
        found = cls(parts["codes"], parts["scales"], packing, shape, checked.format, checked.original_dtype, is_open)
        found.unpack()
        return found

    def unpack(self) -> QuantisedTensor:
        """The same with one code per byte."""
        codes = TERNARY_PACKERS[self.packing][1](self.packed, self.format.padded(self.shape))
        plain = cells_to_shape(codes, self.shape, self.format).contiguous()
        return QuantisedTensor(plain, self.scales, self.format, self.original_dtype)

    def variants(self) -> dict[str, Any]:
        """The same weights in every packing, none of them open; empty where the packing is fixed."""
        if not self.open:
            return {}
        plain = self.unpack()
        return {packing: pack_ternary(plain, packing) for packing in TERNARY_PACKINGS} | {"codes": plain}

    def dequantise(self) -> Tensor:
        return self.unpack().dequantise()


def pack_ternary(stored: QuantisedTensor, packing: str) -> PackedTernaryTensor:
    """A ternary tensor in one of the two packings."""
    cells = cells_of(stored.codes, stored.format)
    packed = TERNARY_PACKERS[packing][0](cells)
    shape = tuple(stored.codes.shape)
    return PackedTernaryTensor(packed, stored.scales, packing, shape, stored.format, stored.original_dtype)


class TernaryGroups:
    """A treatment of a quantisation plan: ternary in groups, packed.

    Args:
        group_size: elements per scale. packing: base3, bitmask, or smaller (what the file's codec makes least of).
    """

    stored_kind = PackedTernaryTensor

    def __init__(self, group_size: int = 128, packing: str = "smaller") -> None:
        if packing not in (*TERNARY_PACKINGS, "smaller"):
            raise UserError(f"packing={packing} is not known: type packing=base3, packing=bitmask or packing=smaller")
        self.format = ternary_groups(group_size)
        self.packing = packing

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> PackedTernaryTensor:
        stored = quantise_rows(weight, self.format).cpu()
        if self.packing == "smaller":
            return replace(pack_ternary(stored, TERNARY_PACKINGS[0]), open=True)
        return pack_ternary(stored, self.packing)

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        scales = self.format.payload_bytes(shape) - prod(shape)
        return -(-self.format.padded(shape) // 5) + scales
