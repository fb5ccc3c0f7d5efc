"""Low-rank correction of quantisation errors (LQER, arXiv 2402.02446) as the records from 2026-04-27 on store it.

    E = W - s Q,  E ~ A B by singular values, A = U_r S_r [R, r], B = V_rᵀ [r, C]
    A: one scale max|A| / 1.5, codes -2..1;  B: row-major groups of 64, scale max / 7.5 each, codes -8..7

Only the few tensors with the largest error (Frobenius norm) get one. Where B is not a whole number of groups, both
factors are symmetric with a scale per row. Invariant: decoding adds up the rank one by one, element by element, in
float32, products unrounded, so that every machine gets the same bits: those of the records' matrix product on CPUs.
Legend: R rows, C columns, r rank.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.codec.layout import torch_dtype
from golf.errors import UserError
from golf.quant.protocol import StoredTensor
from golf.quant.rtn import QuantisedTensor
from golf.quant.shared_work import singular_values

SMALLEST_FACTOR_SCALE = 2.0**-24  # float16's smallest positive number
CORRECTED_PARTS = {"left", "left_scales", "right", "right_scales"}


@dataclass(frozen=True)
class CorrectedTensor:
    """A quantised matrix plus the product of two small factors: `left` [R, r] and `right` [r, C], codes and scales."""

    base: QuantisedTensor
    left: Tensor
    left_scales: Tensor
    right: Tensor
    right_scales: Tensor

    kind: ClassVar[str] = "corrected"

    def parts(self) -> dict[str, Tensor]:
        own = {name: getattr(self, name) for name in sorted(CORRECTED_PARTS)}
        return {**self.base.parts(), **{f"correction_{name}": tensor for name, tensor in own.items()}}

    def meta(self) -> dict[str, Any]:
        return self.base.meta()

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "CorrectedTensor":
        own = {name: parts[f"correction_{name}"] for name in CORRECTED_PARTS}
        base = QuantisedTensor.from_parts(
            meta, {name: part for name, part in parts.items() if not name.startswith("correction_")}
        )
        left, right, shape = own["left"], own["right"], tuple(base.codes.shape)
        fits = left.ndim == right.ndim == 2 and (left.shape[0], right.shape[1]) == shape
        fits = fits and left.shape[1] == right.shape[0] and left.dtype == right.dtype == torch.int8
        for codes, scales in ((left, own["left_scales"]), (right, own["right_scales"])):
            fits = fits and scales.ndim == 1 and len(scales) > 0 and codes.numel() % len(scales) == 0
            fits = fits and scales.dtype == torch.float16
        if not fits:
            raise ValueError("a correction that does not belong to its matrix")
        return cls(base, **own)

    def correction(self) -> Tensor:
        """The product of the factors, [R, C] float32."""
        left, right = spread_scales(self.left, self.left_scales), spread_scales(self.right, self.right_scales)
        total = left[:, :1] * right[:1]
        for r in range(1, left.shape[1]):  # each product is exact: what a fused multiply-add gives
            total = (total.double() + left[:, r : r + 1].double() * right[r : r + 1].double()).float()
        return total

    def dequantise(self) -> Tensor:
        plain = replace(self.base, original_dtype="float32").dequantise()
        return (plain + self.correction()).to(torch_dtype(self.base.original_dtype))


def spread_scales(codes: Tensor, scales: Tensor) -> Tensor:
    """Codes times scales, where each scale belongs to equally many codes in row-major order; float32."""
    return (codes.reshape(len(scales), -1).float() * scales.float()[:, None]).reshape(codes.shape)


def factor_codes(factor: Tensor, groups: int, divisor: float, code_min: int, code_max: int) -> tuple[Tensor, Tensor]:
    """Codes of a factor and the float16 scales of its `groups` equal parts in row-major order."""
    cells = factor.reshape(groups, -1)
    scales = (cells.abs().amax(dim=1) / divisor).clamp_min(SMALLEST_FACTOR_SCALE).to(torch.float16)
    codes = torch.round(cells / scales.float()[:, None]).clamp(code_min, code_max)
    return codes.reshape(factor.shape).to(torch.int8), scales


def pack_factors(
    left: Tensor, right: Tensor, group: int = 64, symmetric_bits: int = 4
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(left codes, left scales, right codes, right scales): asymmetric; symmetric where `group` does not divide."""
    if group and right.numel() % group == 0:
        return (*factor_codes(left, 1, 1.5, -2, 1), *factor_codes(right, right.numel() // group, 7.5, -8, 7))
    code_max = 2 ** (symmetric_bits - 1) - 1
    packed_left = factor_codes(left, left.shape[0], code_max, -code_max, code_max)
    return (*packed_left, *factor_codes(right, right.shape[0], code_max, -code_max, code_max))


def corrected(weight: Tensor, stored: QuantisedTensor, rank: int, group: int, symmetric_bits: int) -> CorrectedTensor:
    """A stored matrix with the correction that brings it nearest to `weight`."""
    error = weight.detach().float().cpu() - replace(stored, original_dtype="float32").dequantise()
    U, S, Vt = singular_values(error)
    left, right = (U[:, :rank] * S[:rank]).contiguous(), Vt[:rank].contiguous()
    packed = pack_factors(left, right, group, symmetric_bits)
    return CorrectedTensor(stored, *packed)


class LowRankCorrection:
    """Corrects the worst tensors of a quantised state; `correction` of a quantisation plan.

    Args:
        rank: r (4 in the record). top: how many tensors (3). group: elements of B per scale; 0 = symmetric factors.
        symmetric_bits: of symmetric factors. names: regular expression of tensors that may be chosen.
    """

    stored_kind = CorrectedTensor

    def __init__(self, rank: int = 4, top: int = 3, group: int = 64, symmetric_bits: int = 4, names: str = ""):
        if rank < 1 or top < 0 or group < 0 or not 2 <= symmetric_bits <= 8:
            raise UserError(
                f"quant.correction: rank={rank} top={top} group={group} symmetric_bits={symmetric_bits} is impossible: "
                "type quant.correction.rank=4 quant.correction.top=3"
            )
        try:
            self.names = re.compile(names)
        except re.error as error:
            raise UserError(f"quant.correction.names: '{names}' is no regular expression ({error})") from error
        self.rank, self.top, self.group, self.symmetric_bits = rank, top, group, symmetric_bits

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of the correction of one matrix, before compression."""
        rows, columns = shape
        rank = min(self.rank, rows, columns)
        grouped = self.group and rank * columns % self.group == 0
        return rank * (rows + columns) + 2 * (1 + rank * columns // self.group if grouped else rows + rank)

    def chosen(self, weights: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]) -> list[str]:
        """The matrices with the largest Frobenius norm of their error, largest first (ties: in the order given)."""
        norms = {}
        for name, tensor in stored.items():
            if isinstance(tensor, QuantisedTensor) and tensor.codes.ndim == 2 and self.names.search(name):
                plain = replace(tensor, original_dtype="float32").dequantise()
                norms[name] = float((weights[name].detach().float().cpu() - plain).norm())
        return sorted(norms, key=lambda name: -norms[name])[: self.top]

    def apply(self, weights: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """The stored tensors, the chosen ones corrected. Only tensors that may be chosen are passed in."""
        found: dict[str, Any] = dict(stored)
        for name in self.chosen(weights, stored):
            found[name] = corrected(weights[name], found[name], self.rank, self.group, self.symmetric_bits)
        return found
