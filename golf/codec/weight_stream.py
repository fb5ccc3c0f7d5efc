"""Codes of weight matrices as one rANS stream, in the order in which a model can predict them.

Matrices with equally many columns form a family. Its rows, one matrix after the other, are dealt to lanes in
contiguous runs; step by step every lane codes the next column of its row. What is expected of the square of a code x
in row r and column c (about its predicted centre) is

    e = gamma_c · num / den,    num = A·v ± sum of x² before it in its row,    den = A·v ± sum of gamma before it

gamma: the column's mean square so far, begun at a prior (golf/codec/column_priors.py); v: the matrix's. With + a row's
scale is learned from its beginning, with the weight of A codes. With - the row's squares are known to add up (scales
that are multiples of the row's deviation: A is the number of columns, and some more for the error of rounding), so
that what is left for its end is known ever better: 1.6 bits a row.
Invariant: encoder and decoder run the same loop; they differ only in where a step's symbols come from.
"""

from dataclasses import dataclass

import numpy as np

from golf.codec.column_prediction import ColumnPredictor
from golf.codec.rans import RansDecoder, rans_encode
from golf.codec.weight_model import CENTRES, AdaptiveTables, square_bins

FIXED_ONE = 2.0**16


@dataclass(frozen=True)
class WeightFamily:
    """Matrices coded together.

    Args:
        rows: of each matrix.
        squares: v, mean square of each matrix's codes, at least 1/256.
        priors_CP: gamma of each column of each matrix before any is seen, in units of v.
        prior_rows: how many rows that is worth, for each matrix.
        row_weight: A where positive, the excess of A over the number of columns where negative.
        walk: next state of a trellis by [state, parity of the code]; codes in odd states are centred half a code lower.
    """

    rows: tuple[int, ...]
    squares: np.ndarray
    priors_CP: np.ndarray
    prior_rows: np.ndarray
    row_weight: int
    lanes: int
    ridge: int = 0
    walk: np.ndarray | None = None


class StepRecorder:
    """Takes the encoder's steps and keeps what `rans_encode` needs."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.starts: list[np.ndarray] = []
        self.frequencies: list[np.ndarray] = []

    def code(self, tables: AdaptiveTables, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        start = tables.cumulative[rows, symbols]
        self.starts.append(start.astype(np.uint16))
        self.frequencies.append((tables.cumulative[rows, symbols + 1] - start).astype(np.uint32))
        return symbols

    def bits(self) -> float:
        """Bits that the steps will take (to compare ways of coding, not to be exact)."""
        steps = np.concatenate(self.frequencies) if self.frequencies else np.ones(1)
        return float(np.log2(65536.0 / steps).sum())

    def finish(self, seed: bytes = b"") -> bytes:
        return rans_encode(self.starts, self.frequencies, self.lanes, seed)


class StepReader:
    """Gives the decoder's steps."""

    def __init__(self, data: bytes, lanes: int) -> None:
        self.decoder = RansDecoder(data, lanes)

    def code(self, tables: AdaptiveTables, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        return self.decoder.decode(tables.cumulative, rows)


def to_fixed(values: np.ndarray) -> np.ndarray:
    """Numbers that add up exactly, in any order."""
    return np.rint(values * FIXED_ONE) / FIXED_ONE


def code_family(
    family: WeightFamily, tables: AdaptiveTables, steps: StepRecorder | StepReader, values: np.ndarray
) -> None:
    """Code `values` [rows, columns] of a family: read by a recorder, filled in by a reader."""
    columns, reach, sign_of_row = values.shape[1], tables.reach, 1 if family.row_weight > 0 else -1
    total = sign_of_row * family.row_weight + (columns if sign_of_row < 0 else 0)
    pool_of_row = np.repeat(np.arange(len(family.rows)), family.rows)
    first = np.arange(family.lanes + 1) * len(values) // family.lanes
    lengths = np.diff(first)
    order = np.argsort(-lengths, kind="stable")
    sums = family.prior_rows * family.priors_CP * family.squares
    weights = family.prior_rows.astype(np.float64)
    predictor = ColumnPredictor(columns, family.ridge, reach / 3) if family.ridge else None
    for turn in range(int(lengths.max(initial=0))):
        rows = first[:-1][order[lengths[order] > turn]] + turn
        pool = pool_of_row[rows]
        gamma = to_fixed(sums / weights)
        spent = gamma
        if sign_of_row < 0:
            spent = predictor.mean_squares(gamma) if predictor else gamma
            spent = to_fixed(spent * (columns * family.squares / np.maximum(spent.sum(axis=0), 1 / FIXED_ONE)))
            gamma = gamma if predictor else spent
        gamma_CL = np.maximum(gamma, 1 / FIXED_ONE)[:, pool]
        spent_CL = spent[:, pool]
        start = total * family.squares[pool]
        share_CL = gamma_CL / (start + sign_of_row * (spent_CL.cumsum(axis=0) - spent_CL)).clip(1 / FIXED_ONE)
        least = (start - columns * family.squares[pool]) * 0.5 if sign_of_row < 0 else 0 * start
        left = start.copy()
        values_CL = values[rows].T.copy()
        seen_CL, squares_CL = np.zeros(values_CL.shape), np.zeros(values_CL.shape)
        states = np.zeros(len(rows), dtype=np.int64)
        for column in range(columns):
            table = square_bins(np.maximum(left, least) * share_CL[column]) * CENTRES
            wanted = values_CL[column]
            if predictor or family.walk is not None:
                centre = predictor.centres(seen_CL, column) if predictor else np.zeros(len(rows))
                if family.walk is not None:
                    centre = (centre - (states & 1)) * 0.5
                whole = np.rint(centre)
                quarter = np.rint((centre - whole) * 4.0)
                sign = np.where(quarter < 0, -1.0, 1.0)
                table += (quarter * sign).astype(np.int64)
                symbols = steps.code(tables, table, ((wanted - whole) * sign).astype(np.int64) + reach)
                value = (symbols - reach) * sign + whole
                square = to_fixed((value - centre) * (value - centre))
                values_CL[column] = value
                if family.walk is not None:
                    code = value.astype(np.int64)
                    value = 2.0 * value + (states & 1)
                    states = family.walk[states, code & 1]
                seen_CL[column] = value
            else:
                symbols = steps.code(tables, table, wanted.astype(np.int64) + reach)
                values_CL[column] = value = symbols - reach
                square = value * value
            tables.update(table, symbols)
            squares_CL[column] = square
            left += sign_of_row * (value * value if predictor and sign_of_row < 0 else square)
        values[rows] = values_CL.T
        if predictor:
            predictor.learn(seen_CL)
        sums += squares_CL @ np.eye(len(family.rows))[pool]
        weights += np.bincount(pool, to_fixed(squares_CL.sum(axis=0) / gamma_CL.sum(axis=0)), len(family.rows))
