"""A section of integer codes as chained rANS streams: one per family of matrices with equal columns.

24 bits of the next stream ride in every lane's last state, so that hundreds of lanes cost the bytes of one.
Section: peak u8; of each tensor that is coded, mean square f16, root of the prior's rows u8, twice reference u8 and
slope i8 (golf/codec/column_priors.py); of each family, ridge u16 and row weight i16; bytes of each stream u32; the
streams; then the tensors that are too small for them, as a plain stream.
"""

import struct
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.column_priors import column_prior, fit_columns, side_vectors
from golf.codec.parts import PartGroup
from golf.codec.protocol import damaged_stream
from golf.codec.rans import SEED_BYTES
from golf.codec.weight_model import AdaptiveTables
from golf.codec.weight_stream import StepReader, StepRecorder, WeightFamily, code_family
from golf.quant.trellis_states import walk_of_spec

MODEL_MIN_NUMEL = 1024
LANES_MOST = 2048
PREDICTED_COLUMNS_MOST = 1024
TENSOR_LAYOUT, FAMILY_LAYOUT = "eBBbBb", "Hh"
TENSOR_NUMBERS = 6
PREDICTED_ROW_WEIGHTS = (16, 64, -3)


def lanes_for(rows: int, columns: int) -> int:
    """One lane for 16,384 symbols: a lane costs two bytes, and a step takes as long for one lane as for many.

    From 4 million symbols on, where time matters more than bytes, one for 8,192; but sixteen rows or more in each, for
    columns are learned from one row of all lanes to the next.
    """
    symbols = rows * columns
    return max(1, min(rows // 16, LANES_MOST, round(symbols / (16_384 if symbols < 2**22 else 8_192))))


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


def family_members(group: PartGroup) -> dict[tuple[int, int], list[int]]:
    """Indices of the tensors that are coded as weights, by (columns, states of their trellis), in order."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, (shape, spec) in enumerate(zip(group.shapes, group.specs)):
        walk = walk_of_spec(spec)
        if len(shape) in (2, 3) and prod(shape) >= MODEL_MIN_NUMEL and prod(shape[:-1]) >= 8 and shape[-1] >= 16:
            members.setdefault((shape[-1], 0 if walk is None else len(walk)), []).append(index)
    return members


def row_weight(codes_RC: np.ndarray) -> int:
    """How rows' mean squares vary: weight of what is expected of a row, or minus the excess weight of a known sum.

    The sum of squares of n normal codes varies by 2/n of its square. A sum that varies by less than half is known.
    """
    energies = (codes_RC.astype(np.int64) ** 2).sum(axis=1)
    rows, columns = codes_RC.shape
    mean = max(1.0, int(energies.sum()) / rows)
    variance = int((energies * energies).sum()) / rows - mean * mean
    excess = variance / (mean * mean) - 2.0 / columns
    if excess < -1.0 / columns:
        return -max(1, min(32767, int(columns * columns / (3.0 * mean))))
    return max(8, min(32767, int(2.0 / max(excess, 2.0**-14))))


def family_of(
    group: PartGroup,
    indices: Sequence[int],
    settings: Sequence[Sequence[float]],
    ridge: int,
    weight: int,
    vectors: Sequence[np.ndarray],
) -> WeightFamily:
    """The family of some tensors of a group; a stack of matrices is as many matrices."""
    rows, squares, prior_rows, priors = [], [], [], []
    columns = group.shapes[indices[0]][-1]
    for index, (square, root, *references) in zip(indices, settings):
        stack = group.shapes[index][0] if len(group.shapes[index]) == 3 else 1
        rows += [prod(group.shapes[index][:-1]) // stack] * stack
        squares += [min(max(square, 2.0**-8), 2.0**15)] * stack
        prior_rows += [max(1, root * root)] * stack
        priors += [column_prior(columns, [int(number) for number in references], vectors)] * stack
    return WeightFamily(
        tuple(rows),
        np.array(squares),
        np.stack(priors, axis=1),
        np.array(prior_rows),
        weight or 1,
        lanes_for(sum(rows), columns),
        ridge,
        walk_of_spec(group.specs[indices[0]]),
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
    tables, vectors = AdaptiveTables(reach_of(peak)), side_vectors(group.known)
    recorders, head, tail = [], struct.pack("<B", peak), b""
    for (columns, _), indices in family_members(group).items():
        settings = []
        for index in indices:
            codes = arrays[index].reshape(-1, columns)
            square = int((codes.astype(np.int64) ** 2).sum()) / codes.size
            settings.append((float(np.float16(square)), *fit_columns(codes, vectors.get(columns, ()))))
            head += struct.pack("<" + TENSOR_LAYOUT, *settings[-1])
        codes = np.concatenate([arrays[index].reshape(-1, columns) for index in indices])
        choices = [(0, row_weight(codes))]
        if predict_rows and may_predict(len(codes), predict_rows * columns):
            choices += [(ridge, weight) for weight in PREDICTED_ROW_WEIGHTS]
        family = family_of(group, indices, settings, 0, 1, vectors.get(columns, ()))
        tried = []
        for used, weight in choices:
            learned, recorder = tables.copy(), StepRecorder(family.lanes)
            attempt = replace(family, ridge=used, row_weight=weight)
            code_family(attempt, learned, recorder, codes.astype(np.float64))
            tried.append((recorder.bits(), used, weight, recorder, learned))
            if used and tried[-1][0] > tried[0][0]:
                break
        _, used, weight, recorder, tables = min(tried, key=lambda attempt: attempt[:3])
        recorders.append(recorder)
        tail += struct.pack("<" + FAMILY_LAYOUT, used, weight)
    return head + tail, recorders


def decode_weights(group: PartGroup, data: bytes) -> tuple[list[Tensor | None], bytes]:
    """The tensors of the families of a section, None for the others, and the bytes that follow the streams."""
    members = family_members(group)
    coded = sum(len(indices) for indices in members.values())
    layout = "<B" + TENSOR_LAYOUT * coded + FAMILY_LAYOUT * len(members) + f"{len(members) + 1}I"
    if len(data) < struct.calcsize(layout):
        raise damaged_stream("range", "truncated")
    peak, *numbers = struct.unpack_from(layout, data)
    tables, vectors = AdaptiveTables(reach_of(peak)), side_vectors(group.known)
    chain = ChainReader(data[struct.calcsize(layout) :], numbers[-len(members) - 1 :])
    chosen = numbers[TENSOR_NUMBERS * coded :]
    out: list[Tensor | None] = [None] * len(group.shapes)
    for (columns, _), indices in members.items():
        settings = [numbers[start : start + TENSOR_NUMBERS] for start in range(0, TENSOR_NUMBERS * len(indices), 6)]
        numbers = numbers[TENSOR_NUMBERS * len(indices) :]
        ridge, weight, *chosen = chosen
        family = family_of(group, indices, settings, ridge, weight, vectors.get(columns, ()))
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
