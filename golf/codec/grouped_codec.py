"""A byte codec over like matrices: one stream per kind of matrix, transposed and with similar rows next to each other.

What the record of 2026-04-27 did with `lrzip`: all layers' c_q, all layers' mlp.fc … each in one stream; each matrix
written column by column; rows of some kinds first put in the order of a greedy chain of nearest neighbours (L1, start
at row 0, ties to the first), which is stored too. Here every order is tried for every kind and the smallest kept.
Section: for each kind of tensor, order u8, bytes of the permutations u32, bytes of the stream u32, both streams.
Invariant: the kinds and their tensors follow from the section's directory alone.
"""

import re
import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.brotli_codec import BrotliCodec
from golf.codec.layout import STORED_DTYPES, join_planes, split_planes, tensor_bytes, tensor_from_bytes
from golf.codec.parts import PartGroup
from golf.codec.protocol import DECODE_LIMIT_BYTES, Codec, damaged_stream
from golf.codec.zpaq_codec import ZpaqCodec
from golf.errors import UserError

# order -> (layout of golf/codec/layout.py, rows sorted by similarity)
GROUPED_ORDERS = {
    "plain": ("plain", False),
    "columns": ("columns", False),
    "similar": ("plain", True),
    "similar_columns": ("columns", True),
    "planes": ("planes", False),
}


def similar_rows(codes: np.ndarray) -> np.ndarray:
    """The greedy chain: from row 0 on, always the unused row with the smallest L1 distance to the last one."""
    rows = torch.from_numpy(np.ascontiguousarray(codes)).to(torch.int16)
    left = torch.arange(len(rows))
    chain = [0] if len(rows) else []
    left = left[1:]
    while len(left):
        distance = (rows[left] - rows[chain[-1]]).abs().sum(dim=1, dtype=torch.int32)
        nearest = int(torch.nonzero(distance == distance.min())[0, 0])
        chain.append(int(left[nearest]))
        left = torch.cat([left[:nearest], left[nearest + 1 :]])
    return np.array(chain, dtype=np.int64)


def kinds_of_names(names: Sequence[str]) -> list[list[int]]:
    """Indices of the tensors whose names differ in numbers only, kind after kind."""
    kinds: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        kinds.setdefault(re.sub(r"\d+", "", name), []).append(index)
    return list(kinds.values())


class GroupedCodec:
    """One stream per kind of matrix, in the best of several orders.

    Args:
        inner: the codec of every stream.
        orders: orders to try: plain, columns, similar, similar_columns (planes is always tried for floats).
        similar_most_rows: matrices with more rows than this are not sorted (the search takes rows² · columns steps).
    """

    name = "grouped"

    def __init__(
        self,
        inner: Codec,
        orders: Sequence[str] = ("plain", "columns", "similar_columns"),
        similar_most_rows: int = 8192,
    ) -> None:
        for order in orders:
            if order not in GROUPED_ORDERS:
                raise UserError(
                    f"codec.orders: '{order}' is not one of {', '.join(GROUPED_ORDERS)}: type codec.orders=[plain]"
                )
        self.inner = inner
        self.orders = tuple(orders)
        self.similar_most_rows = similar_most_rows

    def encode(self, data: bytes) -> bytes:
        return self.inner.encode(data)

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        return self.inner.decode(data, limit_bytes)

    def encode_parts(self, group: PartGroup, tensors: Sequence[Tensor]) -> bytes:
        itemsize = STORED_DTYPES[group.dtype].itemsize
        out = []
        for kind in kinds_of_names(group.names):
            members = [tensors[index].detach().cpu() for index in kind]
            tried = []
            for order in self.orders_for(members, itemsize):
                layout, similar = GROUPED_ORDERS[order]
                chains = [similar_rows(member.numpy()) for member in members] if similar else []
                sorted_members = [member[chain] for member, chain in zip(members, chains)] if similar else members
                raw = b"".join(tensor_bytes(member, layout == "columns") for member in sorted_members)
                raw = split_planes(raw, itemsize) if layout == "planes" else raw
                permutations = np.concatenate(chains).astype("<u4").tobytes() if chains else b""
                head = self.inner.encode(split_planes(permutations, 4)) if similar else b""
                stream = self.inner.encode(raw)
                place = list(GROUPED_ORDERS).index(order)
                tried.append(struct.pack("<BII", place, len(head), len(stream)) + head + stream)
            out.append(min(tried, key=len))
        return b"".join(out)

    def orders_for(self, members: Sequence[Tensor], itemsize: int) -> list[str]:
        """The orders worth trying for a kind of tensor."""
        if itemsize > 1:
            return ["plain", "planes"]
        if any(member.ndim != 2 for member in members):
            return ["plain"]
        small = all(len(member) <= self.similar_most_rows for member in members)
        chosen = [order for order in self.orders if small or not GROUPED_ORDERS[order][1]]
        return [order for order in chosen if order != "planes"] or ["plain"]

    def decode_parts(self, group: PartGroup, data: bytes) -> list[Tensor]:
        itemsize = STORED_DTYPES[group.dtype].itemsize
        found: dict[int, Tensor] = {}
        start = 0
        for kind in kinds_of_names(group.names):
            if len(data) < start + 9:
                raise damaged_stream(self.name, "truncated")
            place, head, length = struct.unpack_from("<BII", data, start)
            layout, similar = list(GROUPED_ORDERS.values())[place]
            middle = start + 9 + head
            end = middle + length
            size = sum(prod(group.shapes[index]) for index in kind) * itemsize
            raw = self.inner.decode(data[middle:end], size)
            if len(raw) != size or end > len(data):
                raise damaged_stream(self.name, "its size differs")
            view = memoryview(join_planes(raw, itemsize) if layout == "planes" else raw)
            shapes = [group.shapes[index] for index in kind]
            places = self.decode_chains(data[start + 9 : middle], shapes) if similar else []
            offset = 0
            for number, (index, shape) in enumerate(zip(kind, shapes)):
                size = prod(shape) * itemsize
                tensor = tensor_from_bytes(view[offset : offset + size], group.dtype, shape, layout == "columns")
                offset += size
                found[index] = tensor[places[number]] if similar else tensor
            start = end
        if start != len(data):
            raise damaged_stream(self.name, "bytes after its end")
        return [found[index] for index in range(len(group.shapes))]

    def decode_chains(self, head: bytes, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """For each matrix, where its rows are in the stored order."""
        rows = [shape[0] for shape in shapes]
        raw = self.inner.decode(head, 4 * sum(rows))
        if len(raw) != 4 * sum(rows):
            raise damaged_stream(self.name, "its size differs")
        order = np.frombuffer(join_planes(raw, 4), dtype="<u4").astype(np.int64)
        places, start = [], 0
        for count in rows:
            chain = order[start : start + count]
            if not np.array_equal(np.sort(chain), np.arange(count)):
                raise damaged_stream(self.name, "an order that is none")
            places.append(np.argsort(chain))
            start += count
        return places


class GroupedBrotli(GroupedCodec):
    """Grouped streams in brotli."""

    name = "grouped_brotli"

    def __init__(self, orders: Sequence[str] = ("plain", "columns", "similar_columns"), level: int = 11) -> None:
        super().__init__(BrotliCodec(level), orders)


class GroupedZpaq(GroupedCodec):
    """Grouped streams in ZPAQ."""

    name = "grouped_zpaq"

    def __init__(self, orders: Sequence[str] = ("columns", "similar_columns"), level: int = 5) -> None:
        super().__init__(ZpaqCodec(level), orders)
