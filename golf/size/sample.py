"""The size of an artifact from a part of its contents: what each section's rows take, measured on every n-th row.

Where no section is larger than `sample_bytes`, or nothing is compressed, the artifact is packed in memory: the forecast
of a finished set of tensors is the size of its file, to the byte. Of a larger section, rows at
even distances are compressed twice, all of them and every second one; the difference is the price of one more row,
free of what a compressor pays for its start:   bytes(N) = bytes(n) + (N - n) · (bytes(n) - bytes(n/2)) / (n - n/2).
A smaller section beside it is compressed whole. Invariant: the classes add up to the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from golf.codec.artifact import artifact_bytes, state_variants
from golf.codec.container import container_bytes, only_codec, read_header
from golf.codec.none_codec import NoCodec
from golf.codec.parts import PartGroup, part_groups
from golf.codec.protocol import Codec
from golf.codec.sections import build_directory, group_bytes
from golf.codec.size import sizes_of_sections
from golf.quant.state import QuantisedState

SAMPLE_BYTES = 1 << 18
ANY_CRC = 2**31  # as many digits as most
# As long as most: what a forecast puts where an artifact names its tokenizer (a hash does not compress).
ANY_TOKENIZER = {"kind": "sentencepiece", "vocab_size": 1024, "sha256": sha256(b"tokenizer").hexdigest()}


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
    sample_bytes: int | None = SAMPLE_BYTES,
    rate_of: Any = None,
) -> SizeForecast:
    """What `artifact_bytes` with the same arguments would come to.

    Args:
        sample_bytes: how much of each section is compressed; None = all of it, so that the forecast is exact.
        rate_of: group -> (stored bytes per raw byte, where it was measured) or None; stronger than a sample.
    """
    variants = state_variants(quantised)
    if len(variants) > 1:
        tried = [forecast_artifact(one, network, tokenizer, codec, sample_bytes, rate_of) for one in variants]
        return min(tried, key=lambda forecast: forecast.total)
    directory, members = build_directory(quantised.tensors, quantised.classes)
    groups = part_groups(directory)
    whole = sample_bytes is None or isinstance(codec, NoCodec) or all(g.raw_bytes() <= sample_bytes for g in groups)
    if whole and (rate_of is None or all(rate_of(group) is None for group in groups)):
        return packed_in_memory(quantised, network, tokenizer, codec)
    sections, entries, kept = [], [], []
    known = tuple(tensor for group, tensors in zip(groups, members) if group.comes_first() for tensor in tensors)
    for group, tensors in zip(groups, members):
        group = group if group.comes_first() else replace(group, known=known)
        raw, found = group.raw_bytes(), rate_of(group) if rate_of is not None else None
        layout = 0
        if found is not None:
            size, source = round(raw * found[0]), found[1]
        else:
            size, layout = sampled_size(codec, group, tensors, raw if sample_bytes is None else sample_bytes)
            source = "exact" if sample_bytes is None or raw <= sample_bytes else "sample"
        sections.append(Section(group, raw, size, source))
        entries.append([size, raw, ANY_CRC])
        kept.append(layout)
    layouts = "parts" if hasattr(codec, "encode_parts") else kept
    extra = {"network": dict(network), "tokenizer": dict(tokenizer), "sections": entries, "layouts": layouts}
    head, header = container_bytes(codec, {**directory, **extra}, [], 1)
    total = len(head) + sum(section.bytes for section in sections)
    return SizeForecast(sections, sizes_of_sections(header, total), header)


def packed_in_memory(
    quantised: QuantisedState, network: Mapping[str, Any], tokenizer: Mapping[str, Any], codec: Codec
) -> SizeForecast:
    """The sizes of the artifact that is made of these tensors, by making it."""
    blob, sizes = artifact_bytes(quantised, network, tokenizer, codec)
    header, _, _ = read_header(blob, only_codec(codec), "the forecast")
    found = zip(part_groups(header), header["sections"])
    sections = [Section(group, raw, stored, "exact") for group, (stored, raw, _) in found]
    return SizeForecast(sections, sizes, header)


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
    """Bytes of a section compressed now, and the number of the layout that was smaller."""
    if hasattr(codec, "encode_parts"):
        return len(codec.encode_parts(group, tensors)), 0  # pyright: ignore[reportAttributeAccessIssue]
    plain, permuted = (len(codec.encode(group_bytes(tensors, permuted))) for permuted in (False, True))
    return min(plain, permuted), int(permuted < plain)
