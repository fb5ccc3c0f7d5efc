"""The size of an artifact from a part of its contents: what each section's rows take, measured on every n-th row.

A section up to `sample_bytes` is compressed whole, so a small network's forecast is its size. Of a larger one, rows at
even distances are compressed twice, all of them and every second one; the difference is the price of one more row,
free of what a compressor pays for its start:   bytes(N) = bytes(n) + (N - n) · (bytes(n) - bytes(n/2)) / (n - n/2).
Invariant: without compression (codec=none) the forecast is the size of the file, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from golf.codec.container import container_bytes
from golf.codec.layout import layouts_worth_trying
from golf.codec.none_codec import NoCodec
from golf.codec.parts import PartGroup, part_groups
from golf.codec.protocol import Codec
from golf.codec.sections import build_directory, group_bytes
from golf.codec.size import sizes_of_sections
from golf.quant.state import QuantisedState

SAMPLE_BYTES = 1 << 18
ANY_CRC = 2**31  # as many digits as most


@dataclass(frozen=True)
class Section:
    """One section of an artifact: bytes before compression, and after it as forecast; `source` says from what."""

    group: PartGroup
    raw_bytes: int
    bytes: int
    source: str


@dataclass(frozen=True)
class SizeForecast:
    """Bytes by class of an artifact that was not packed; `header` is its directory."""

    sections: list[Section]
    sizes: dict[str, int]
    header: dict[str, Any]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def forecast_artifact(
    quantised: QuantisedState,
    network: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    codec: Codec,
    sample_bytes: int = SAMPLE_BYTES,
    rate_of: Any = None,
) -> SizeForecast:
    """What `artifact_bytes` with the same arguments would come to.

    Args:
        sample_bytes: how much of each section is compressed.
        rate_of: group -> (stored bytes per raw byte, where it was measured) or None; stronger than a sample.
    """
    directory, members = build_directory(quantised.tensors, quantised.classes)
    sections, entries, kept = [], [], []
    for group, tensors in zip(part_groups(directory), members):
        raw, found = group.raw_bytes(), rate_of(group) if rate_of is not None else None
        checksum, layout = ANY_CRC, 0
        if isinstance(codec, NoCodec):
            whole = group_bytes(tensors, group.dtype, "plain")
            size, source, checksum = len(whole), "exact", crc32(whole)
        elif found is not None:
            size, source = round(raw * found[0]), found[1]
        else:
            size, layout = sampled_size(codec, group, tensors, sample_bytes)
            source = "exact" if raw <= sample_bytes else "sample"
        sections.append(Section(group, raw, size, source))
        entries.append([size, raw, checksum])
        kept.append(layout)
    layouts = "parts" if hasattr(codec, "encode_parts") else kept
    extra = {"network": dict(network), "tokenizer": dict(tokenizer), "sections": entries, "layouts": layouts}
    head, header = container_bytes(codec, {**directory, **extra}, [], 1)
    total = len(head) + sum(section.bytes for section in sections)
    return SizeForecast(sections, sizes_of_sections(header, total), header)


def sampled_size(codec: Codec, group: PartGroup, tensors: Sequence[Tensor], sample_bytes: int) -> tuple[int, int]:
    """Bytes of a section after compression, and which layout is smallest."""
    raw = group.raw_bytes()
    if raw <= sample_bytes:
        return encoded_size(codec, group, tensors)
    rows = [sampled_rows(tensor, sample_bytes / raw, offset) for offset, tensor in enumerate(tensors)]
    half = [tensor[::2] if tensor.ndim else tensor for tensor in rows]
    all_of, half_of = with_tensors(group, rows), with_tensors(group, half)
    (more, layout), (less, _) = encoded_size(codec, all_of, rows), encoded_size(codec, half_of, half)
    step = all_of.raw_bytes() - half_of.raw_bytes()
    rate = (more - less) / step if step else more / max(all_of.raw_bytes(), 1)
    return max(0, round(more + (raw - all_of.raw_bytes()) * rate)), layout


def sampled_rows(tensor: Tensor, share: float, offset: int) -> Tensor:
    """About `share` of the rows (entries of the first axis), at even distances and in order; at least two.

    Tensors with another `offset` begin elsewhere: rows that are alike in all layers are not taken from all of them.
    """
    if tensor.ndim == 0 or tensor.shape[0] <= 2:
        return tensor
    rows = tensor.shape[0]
    count = min(rows, max(2, round(rows * share)))
    begin = (offset * 0.6180339887498949 % 1.0) * (rows / count)
    places = (torch.arange(count, dtype=torch.float64) * (rows / count) + begin).long().clamp_max(rows - 1)
    return tensor[places]


def with_tensors(group: PartGroup, tensors: Sequence[Tensor]) -> PartGroup:
    """The description of a section of these tensors instead."""
    return replace(group, shapes=tuple(tuple(tensor.shape) for tensor in tensors))


def encoded_size(codec: Codec, group: PartGroup, tensors: Sequence[Tensor]) -> tuple[int, int]:
    """Bytes of a section compressed now, and the number of the layout that was smallest."""
    if hasattr(codec, "encode_parts"):
        return len(codec.encode_parts(group, tensors)), 0  # pyright: ignore[reportAttributeAccessIssue]
    layouts = layouts_worth_trying(group.dtype)
    sizes = [len(codec.encode(group_bytes(tensors, group.dtype, layout))) for layout in layouts]
    best = min(range(len(sizes)), key=sizes.__getitem__)
    return sizes[best], best
