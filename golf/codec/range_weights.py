"""Matrices of small integers as one rANS stream: one family of matrices with equal columns after the other.

Stream: peak u8; of each matrix, mean square f16, root of the prior's rows u8, number of a vector u8 and slope i8
(golf/codec/column_priors.py); of each family, ridge u16 and row weight i16; then the rANS stream.
"""

import struct
from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from golf.codec.column_prediction import PREDICTION_BLOCK
from golf.codec.column_priors import column_prior, fit_columns, side_vectors
from golf.codec.protocol import damaged_stream
from golf.codec.rans import RansDecoder, RansRecorder, rans_encode
from golf.codec.weight_model import AdaptiveTables
from golf.codec.weight_stream import WeightFamily, code_family
from golf.quant.trellis_states import walk_of_spec

MODEL_MIN_NUMEL = 1024
LANES_MOST = 2048
RUN_ROWS, WALKS_RUN_ROWS = 64, 16  # rows of a run, at least: columns are learned from one row of all runs to the next
PREDICTED_COLUMNS_MOST = 1024
MATRIX_LAYOUT, FAMILY_LAYOUT = "eBBb", "Hh"
MATRIX_NUMBERS = 4
PREDICTED_ROW_WEIGHTS = (16, -2)
SMALL_SCALE = 1024  # a square of half the geometric mean, in units of golf/codec/column_priors.py


def lanes_of(shapes: Sequence[tuple[int, ...]]) -> int:
    """Lanes of a stream: one costs half a byte, and a step takes as long for one as for many.

    One for 16,384 symbols; from 8 million on, where time matters more than bytes, one for 8,192.
    """
    symbols = sum(map(prod, shapes))
    return min(LANES_MOST, 4 + symbols // (16_384 if symbols < 2**23 else 8_192))


def family_members(shapes: Sequence[tuple[int, ...]], specs: Sequence[Any]) -> dict[tuple[int, ...], list[int]]:
    """Indices of the tensors that are coded as weights, by (columns, trellis states, rows of a walk), in order."""
    members: dict[tuple[int, ...], list[int]] = {}
    for index, (shape, spec) in enumerate(zip(shapes, specs)):
        if len(shape) in (2, 3) and prod(shape) >= MODEL_MIN_NUMEL and prod(shape[:-1]) >= 8 and shape[-1] >= 16:
            walk, walk_rows = walk_of_spec(spec, shape[-1])
            members.setdefault((shape[-1], 0 if walk is None else len(walk), walk_rows), []).append(index)
    return members


def row_weight(codes_RC: np.ndarray) -> int:
    """How rows' mean squares vary: weight of what is expected of a row, or minus the excess weight of a known sum.

    The sum of squares of n normal codes about their mean varies by 2/n of its square. A sum that varies by less than
    half is known.
    """
    rows, columns = codes_RC.shape
    sums = codes_RC.sum(axis=1, dtype=np.int64)
    energies = (codes_RC.astype(np.int64) ** 2).sum(axis=1) - sums * sums // columns
    mean = max(1.0, int(energies.sum()) / rows)
    variance = int((energies * energies).sum()) / rows - mean * mean
    excess = variance / (mean * mean) - 2.0 / columns
    if excess < -1.0 / columns:
        return -max(1, min(32767, int(columns * columns / (6.0 * mean))))
    return max(4, min(32767, int(2.0 / max(excess, 2.0**-14))))


def family_of(
    shapes: Sequence[tuple[int, ...]],
    spec: Any,
    settings: Sequence[Sequence[Any]],
    vectors: Mapping[int, Sequence[np.ndarray]],
    lanes: int,
) -> WeightFamily:
    """The family of some tensors; a stack of matrices is as many matrices."""
    rows, each = [], []
    columns = shapes[0][-1]
    for shape, (square, root, reference, slope) in zip(shapes, settings):
        stack = prod(shape[:-2])
        rows += [shape[-2]] * stack
        prior = column_prior(columns, reference, slope, vectors.get(columns, ()))
        each += [(min(max(square, 2.0**-8), 2.0**15), max(1, root * root), prior)] * stack
    squares, prior_rows, priors = zip(*each)
    total = sum(rows)
    # Rows with small scales (tokens that are rarely seen, or never) share other directions than the rest.
    kinds = (vectors.get(total, [np.zeros(total)] * 2)[1] < -SMALL_SCALE).astype(np.int64)
    kinds *= int(16 * kinds.sum() >= total)
    walk, walk_rows = walk_of_spec(spec, columns)
    starts = np.arange(total)
    if walk_rows:
        starts = np.concatenate(
            [np.arange(0, each, walk_rows) + end - each for each, end in zip(rows, np.cumsum(rows))]
        )
    along = walk is not None and not walk_rows
    runs = max(1, min(len(starts), total // (WALKS_RUN_ROWS if along else RUN_ROWS), lanes))
    together = 1 if along else min(PREDICTION_BLOCK, 1 << (lanes // runs).bit_length() - 1)
    return WeightFamily(
        rows,
        np.array(squares),
        np.stack(priors, axis=1),
        np.array(prior_rows),
        kinds,
        runs,
        walk,
        None if along else starts,
        together,
    )


def encode_matrices(
    arrays: Sequence[np.ndarray], specs: Sequence[Any], known: Sequence[Tensor], predict_rows: int, ridge: int
) -> bytes:
    """The stream of those arrays that `family_members` names.

    Args:
        predict_rows: families with at least this many rows per column are also tried with column prediction (0: none).
        ridge: rows of zeros that the prediction starts from.
    """
    shapes = [array.shape for array in arrays]
    members = family_members(shapes, specs)
    peak = max((int(np.abs(arrays[i].astype(np.int16)).max()) for found in members.values() for i in found), default=0)
    tables, vectors, recorder = AdaptiveTables(peak + peak // 2 + 2), side_vectors(known), RansRecorder()
    lanes = lanes_of([shapes[i] for found in members.values() for i in found])
    head, tail = struct.pack("<B", peak), b""
    for (columns, *_), indices in members.items():
        settings, parts = [], []
        for index in indices:
            codes = arrays[index].reshape(-1, columns)
            parts.append(codes)
            square = float(np.float16((codes.astype(np.int64) ** 2).mean()))
            settings.append((square, *fit_columns(codes, vectors.get(columns, ()))))
            head += struct.pack("<" + MATRIX_LAYOUT, *settings[-1])
        codes = np.concatenate(parts)
        family = family_of([shapes[i] for i in indices], specs[indices[0]], settings, vectors, lanes)
        choices = [(0, row_weight(codes))]
        if 0 < predict_rows * columns <= len(codes) and columns <= PREDICTED_COLUMNS_MOST:
            choices += [(ridge, weight) for weight in PREDICTED_ROW_WEIGHTS]
        tried, before = [], recorder
        for family.ridge, family.row_weight in choices:
            learned, recorder = deepcopy(tables), RansRecorder()
            code_family(family, learned, recorder, codes.astype(np.float64))
            size = len(rans_encode(recorder.steps, lanes)) if len(choices) > 1 else 0
            tried.append((size, family.ridge, family.row_weight, recorder, learned))
            if size > tried[0][0]:
                break
        _, *chosen, recorder, tables = min(tried, key=lambda attempt: attempt[0])
        recorder.steps = before.steps + recorder.steps
        tail += struct.pack("<" + FAMILY_LAYOUT, *chosen)
    return head + tail + rans_encode(recorder.steps, lanes)


def decode_matrices(
    shapes: Sequence[tuple[int, ...]], specs: Sequence[Any], known: Sequence[Tensor], data: bytes
) -> dict[int, np.ndarray]:
    """The arrays of a stream (float64) by index."""
    members = family_members(shapes, specs)
    layout = "<B" + MATRIX_LAYOUT * sum(map(len, members.values())) + FAMILY_LAYOUT * len(members)
    start = struct.calcsize(layout)
    peak, *numbers = struct.unpack(layout, data[:start])
    chosen = iter(numbers[len(numbers) - 2 * len(members) :])
    settings = iter(zip(*[iter(numbers)] * MATRIX_NUMBERS))
    tables, vectors = AdaptiveTables(peak + peak // 2 + 2), side_vectors(known)
    lanes = lanes_of([shapes[i] for found in members.values() for i in found])
    families = []
    for (columns, *_), indices in members.items():
        found = [next(settings) for _ in indices]
        family = family_of([shapes[i] for i in indices], specs[indices[0]], found, vectors, lanes)
        family.ridge, family.row_weight = next(chosen), next(chosen)
        if family.ridge and not sum(family.rows) >= columns <= PREDICTED_COLUMNS_MOST:
            raise damaged_stream("range", "a prediction that no encoder makes")
        families.append(family)
    decoder = RansDecoder(data[start:], lanes)
    out = {}
    for family, ((columns, *_), indices) in zip(families, members.items()):
        values = np.zeros((sum(family.rows), columns))
        code_family(family, tables, decoder, values)
        ends = np.cumsum([prod(shapes[index][:-1]) for index in indices])[:-1]
        for index, part in zip(indices, np.split(values, ends)):
            out[index] = part.reshape(shapes[index])
    decoder.finish()
    return out
