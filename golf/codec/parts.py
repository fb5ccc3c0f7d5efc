"""Codecs that see what they compress: the tensors of a section with their names, shapes and formats.

A byte codec (golf/codec/protocol.py) gets a section's bytes. A parts codec also has `encode_parts` and `decode_parts`
and gets its tensors: codes as integers with the format that made them, scales, values. It must not trust what it
decodes: shapes come from the file's directory (already checked against the declared sizes), the data from anywhere.
Invariant: decode_parts(group, encode_parts(group, tensors)) has the bits of `tensors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

from torch import Tensor

from golf.codec.layout import STORED_DTYPES
from golf.codec.protocol import DECODE_LIMIT_BYTES


@dataclass(frozen=True)
class PartGroup:
    """The tensors of one section: one part (codes, scales, values …) in one dtype of one class of tensors.

    `specs` are [kind, meta] of the stored tensors (golf/quant/protocol.py) they belong to. `known`: the tensors of the
    file's sections of 16-bit floats, in order, for a section of another dtype: both sides may learn from them.
    """

    label: str
    part: str
    dtype: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    specs: tuple[Any, ...]
    known: tuple[Tensor, ...] = field(default=(), compare=False)

    def raw_bytes(self) -> int:
        """Bytes of the tensors uncompressed."""
        return sum(map(prod, self.shapes)) * STORED_DTYPES[self.dtype].itemsize

    def comes_first(self) -> bool:
        """Whether other sections may learn from this one."""
        return self.dtype in ("float16", "bfloat16")


class PartsCodec(Protocol):
    """A codec with a view of tensors; `encode` and `decode` serve the header."""

    name: str

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes: ...

    def encode_parts(self, group: PartGroup, tensors: Sequence[Tensor]) -> bytes: ...

    def decode_parts(self, group: PartGroup, data: bytes) -> list[Tensor]: ...


def part_groups(directory: dict[str, Any]) -> list[PartGroup]:
    """The groups of an artifact's directory (golf/codec/sections.py)."""
    members: list[list[tuple[str, tuple[int, ...], Any]]] = [[] for _ in directory["groups"]]
    for name, _, spec, parts in directory["tensors"]:
        for _, group, shape in parts:
            if group < 0 or spec < 0 or len(shape) > 8 or any(type(n) is not int or not 0 <= n < 2**40 for n in shape):
                raise ValueError(f"the shape of {name}")
            members[group].append((name, tuple(shape), directory["specs"][spec]))
    groups = []
    for (label, part, dtype), found in zip(directory["groups"], members):
        names, shapes, specs = zip(*found) if found else ((), (), ())
        groups.append(PartGroup(label, part, dtype, names, shapes, specs))
    return groups
