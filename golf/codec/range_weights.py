"""A section of integer codes as chained rANS streams: one per family of matrices with equal columns.

24 bits of the next stream ride in every lane's last state, so that hundreds of lanes cost the bytes of one.
Section: peak u8, mean |code| of each tensor u16, ridge of each family u16, bytes of each stream u32; the streams; then
the tensors that are too small for them, as a plain stream.
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.parts import PartGroup
from golf.codec.protocol import damaged_stream
from golf.codec.rans import SEED_BYTES
from golf.codec.weight_model import AdaptiveTables
from golf.codec.weight_stream import MEAN_STEP, StepReader, StepRecorder, WeightFamily, code_family
from golf.quant.trellis_states import walk_of_spec

MODEL_MIN_NUMEL = 1024
LANES_MOST = 1024
PREDICTED_COLUMNS_MOST = 2048


def lanes_for(rows: int, columns: int) -> int:
    """One lane for 16,384 symbols: a lane costs three bytes, and a step takes as long for one lane as for many.

    From 4 million symbols on, where time matters more than bytes, one for 8,192.
    """
    symbols = rows * columns
    return max(1, min(rows, LANES_MOST, round(symbols / (16_384 if symbols < 2**22 else 8_192))))


def chain_streams(recorders: Sequence[StepRecorder], tail: bytes) -> bytes:
    """All streams in the decoder's order, each with the head of what follows in its lanes' last states.

    Returns:
        The length of each stream and of `tail` (u32 each), the chained streams, and what is left of the tail.
    """
    lengths, rest, following = [len(tail)], tail, len(tail)
    for recorder in reversed(recorders):
        taken = min(SEED_BYTES * recorder.lanes, following)
        stream = recorder.finish(rest[:taken])
        rest = stream + rest[taken:]
        following = len(stream)
        lengths.append(following)
    return struct.pack(f"<{len(lengths)}I", *reversed(lengths)) + rest


class ChainReader:
    """The decoder's side of `chain_streams`: open and close each stream in turn."""

    def __init__(self, data: bytes, lengths: Sequence[int]) -> None:
        self.data = data
        self.lengths = list(lengths)

    def open(self, lanes: int) -> StepReader:
        length = self.lengths.pop(0)
        if length > len(self.data):
            raise damaged_stream("range", "truncated")
        reader = StepReader(self.data[:length], lanes)
        self.data = self.data[length:]
        return reader

    def close(self, reader: StepReader) -> None:
        """Check a stream's end and put the head it carried back in front of what follows."""
        seed = reader.decoder.finish()
        taken = min(len(seed), self.lengths[0])
        if seed[taken:].strip(b"\0"):
            raise damaged_stream("range", "its end differs")
        self.data = seed[:taken] + self.data

    def finish(self) -> bytes:
        """The tail."""
        if len(self.data) != self.lengths[0]:
            raise damaged_stream("range", "its size differs")
        return self.data


def may_predict(rows: int, columns: int) -> bool:
    """Whether a family is tall enough for column prediction, and narrow enough for its square of columns."""
    return rows >= columns <= PREDICTED_COLUMNS_MOST


def reach_of(peak: int) -> int:
    """Symbols that a centre of up to a third of them can need for codes up to `peak`."""
    return peak + peak // 2 + 2


def mean_code(codes: np.ndarray) -> int:
    """Mean magnitude of codes in units of 1/64, rounded."""
    return int(np.abs(codes.astype(np.int64)).sum() * int(MEAN_STEP) // max(1, codes.size))


def family_members(group: PartGroup) -> dict[tuple[int, int], list[int]]:
    """Indices of the tensors that are coded as weights, by (columns, states of their trellis), in order."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, (shape, spec) in enumerate(zip(group.shapes, group.specs)):
        walk = walk_of_spec(spec)
        if len(shape) in (2, 3) and prod(shape) >= MODEL_MIN_NUMEL and prod(shape[:-1]) >= 8 and shape[-1] >= 16:
            members.setdefault((shape[-1], 0 if walk is None else len(walk)), []).append(index)
    return members


def family_of(group: PartGroup, indices: Sequence[int], columns: int, means: Sequence[int], ridge: int) -> WeightFamily:
    """The family of some tensors of a group; a stack of matrices is as many matrices."""
    rows, spread = [], []
    for index, mean in zip(indices, means):
        stack = group.shapes[index][0] if len(group.shapes[index]) == 3 else 1
        rows += [prod(group.shapes[index][:-1]) // stack] * stack
        spread += [mean] * stack
    walk = walk_of_spec(group.specs[indices[0]])
    return WeightFamily(
        tuple(rows),
        columns,
        tuple(spread),
        lanes_for(sum(rows), columns),
        ridge,
        row_prior=24 if ridge else 128,
        walk=walk,
    )


def encode_weights(
    group: PartGroup, arrays: Sequence[np.ndarray], predict_rows: int, ridge: int
) -> tuple[bytes, list[StepRecorder]]:
    """The head of a section of int8 codes and its streams.

    Args:
        predict_rows: families with at least this many rows per column are also tried with column prediction (0: none).
        ridge: rows of zeros that the prediction starts from.
    """
    peak = max(int(np.abs(array.astype(np.int16)).max(initial=0)) for array in arrays)
    tables = AdaptiveTables(reach_of(peak))
    recorders, ridges = [], []
    means = [mean_code(array) for array in arrays]
    for (columns, _), indices in family_members(group).items():
        values = np.concatenate([arrays[index].reshape(-1, columns) for index in indices]).astype(np.float64)
        tried = []
        for used in (0, ridge) if predict_rows and may_predict(len(values), predict_rows * columns) else (0,):
            learned = tables.copy()
            family = family_of(group, indices, columns, [means[index] for index in indices], used)
            recorder = StepRecorder(family.lanes)
            code_family(family, learned, recorder, values.copy())
            tried.append((recorder.bits(), used, recorder, learned))
        _, used, recorder, tables = min(tried, key=lambda attempt: attempt[:2])
        recorders.append(recorder)
        ridges.append(used)
    head = struct.pack(f"<B{len(means)}H", peak, *means) + struct.pack(f"<{len(ridges)}H", *ridges)
    return head, recorders


def decode_weights(group: PartGroup, data: bytes) -> tuple[list[Tensor | None], bytes]:
    """The tensors of the families of a section, None for the others, and the bytes that follow the streams."""
    members = family_members(group)
    tensors = len(group.shapes)
    layout = f"<B{tensors}H{len(members)}H{len(members) + 1}I"
    if len(data) < struct.calcsize(layout):
        raise damaged_stream("range", "truncated")
    peak, *numbers = struct.unpack_from(layout, data)
    means, ridges, lengths = numbers[:tensors], numbers[tensors:][: len(members)], numbers[tensors + len(members) :]
    tables = AdaptiveTables(reach_of(peak))
    chain = ChainReader(data[struct.calcsize(layout) :], lengths)
    out: list[Tensor | None] = [None] * tensors
    for ((columns, _), indices), ridge in zip(members.items(), ridges):
        family = family_of(group, indices, columns, [means[index] for index in indices], ridge)
        if ridge and not may_predict(sum(family.rows), columns):
            raise damaged_stream("range", "a prediction that no encoder makes")
        values = np.zeros((sum(family.rows), columns))
        reader = chain.open(family.lanes)
        code_family(family, tables, reader, values)
        chain.close(reader)
        if values.max(initial=0) > 127 or values.min(initial=0) < -128:
            raise damaged_stream("range", "a code that is no byte")
        start = 0
        for index in indices:
            size = prod(group.shapes[index][:-1])
            codes = values[start : start + size].astype(np.int8)
            out[index] = torch.from_numpy(codes.reshape(group.shapes[index]))
            start += size
    return out, chain.finish()
