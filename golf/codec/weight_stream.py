"""Codes of weight matrices, in the order in which a model can predict them.

Matrices with equally many columns form a family. Its rows, one matrix after the other, are cut into runs; step by step
every run codes the next column of its row, or the next few, each by a lane of the coder. What is expected of the square
of a code x in row r and column c (about its predicted centre) is

    e = gamma_c · num / den,    num = A·v ± sum of x² before it in its row,    den = A·v ± sum of gamma before it

gamma: the column's mean square so far, begun at a prior (golf/codec/column_priors.py); v: the matrix's. With + a row's
scale is learned from its beginning, with the weight of A codes. With - the row's squares about its
mean are known to add up (scales that are multiples of the row's deviation: A is the number of columns, and some more
for the error of rounding; num has the square of the sum so far, over the columns, too), so that what is left for its
end is known ever better: 1.5 to 2 bits a row.
Codes of a trellis are centred by its state. Walks along the rows hand it from column to column; walks down the columns
(`starts`) from row to row, and runs begin where walks do.
Invariant: encoder and decoder run the same loop; they differ only in where a step's symbols come from. Sums are of
multiples of 2^-16 and so exact, in any order.
"""

from dataclasses import dataclass

import numpy as np

from golf.codec.column_prediction import ColumnPredictor
from golf.codec.rans import RansDecoder, RansRecorder
from golf.codec.weight_model import CENTRES, AdaptiveTables, square_bins

FIXED_ONE = 2.0**16


@dataclass
class WeightFamily:
    """Matrices coded together.

    Args:
        rows: of each matrix.
        squares: v, mean square of each matrix's codes, at least 1/256.
        priors_CP: gamma of each column of each matrix before any is seen, in units of v.
        prior_rows: how many rows that is worth, for each matrix.
        row_kinds: 0 or 1 for each row; where columns are predicted, rows of a kind learn from each other.
        runs: how many are coded side by side, all of about as many rows.
        walk: next state of a trellis by [state, parity of the code]; codes in odd states are centred half a code lower.
        starts: rows where walks down the columns begin, which runs begin at too; none: walks go along the rows.
        together: columns that are coded in one step, a power of two; more than one needs `starts`. They tell nothing of
            each other, which costs little, and a step takes as long for one code as for many.
        row_weight: A where positive, the excess of A over the number of columns where negative.
        ridge: rows of zeros that the prediction of columns starts from; 0: no prediction.
    """

    rows: list[int]
    squares: np.ndarray
    priors_CP: np.ndarray
    prior_rows: np.ndarray
    row_kinds: np.ndarray
    runs: int
    walk: np.ndarray | None
    starts: np.ndarray | None = None
    together: int = 1
    row_weight: int = 1
    ridge: int = 0


def to_fixed(values: np.ndarray) -> np.ndarray:
    """Numbers that add up exactly, in any order."""
    return np.rint(values * FIXED_ONE) / FIXED_ONE


def code_family(
    family: WeightFamily, tables: AdaptiveTables, coder: RansRecorder | RansDecoder, values: np.ndarray
) -> None:
    """Code `values` [rows, columns] of a family: read with a recorder, filled in with a decoder."""
    columns, reach, walk, width = values.shape[1], tables.reach, family.walk, family.together
    sign_of_row, excess = (1, 0) if family.row_weight > 0 else (-1, -family.row_weight)
    total = columns + excess if excess else family.row_weight
    kinds = 1 + int(family.row_kinds.max()) if family.ridge else 1
    predictors = [ColumnPredictor(columns, width, family.ridge, reach / 3) for _ in range(kinds if family.ridge else 0)]
    kind_of_row = family.row_kinds if family.ridge else 0 * family.row_kinds
    pool_of_row = np.repeat(np.arange(len(family.rows)), family.rows) * kinds + kind_of_row
    squares, prior_rows = family.squares.repeat(kinds), family.prior_rows.repeat(kinds)
    starts = np.arange(len(values)) if family.starts is None else family.starts
    along = 1 if family.starts is None else 0
    first = np.append(starts, len(values))[np.arange(family.runs + 1) * len(starts) // family.runs]
    order = np.argsort(first[:-1] - first[1:], kind="stable")
    sums = prior_rows * family.priors_CP.repeat(kinds, axis=1) * squares
    weights = prior_rows.astype(np.float64)
    begins = np.isin(np.arange(len(values)), starts)
    states_CL = np.zeros((columns + along, family.runs), dtype=np.int64)
    for turn in range(int((first[1:] - first[:-1]).max())):
        rows = first[order] + turn
        rows = rows[rows < first[order + 1]]
        pool, kind = pool_of_row[rows], kind_of_row[rows]
        spent = gamma = to_fixed(sums / weights)
        if excess:
            if predictors and turn:
                seen = [each.moments.diagonal() / max(1, each.rows_seen) for each in predictors]
                spent = np.stack(seen * len(family.rows), axis=1)
            spent = to_fixed(spent * (columns * squares / spent.sum(axis=0).clip(1 / FIXED_ONE)))
            gamma = gamma if predictors else spent
        gamma_CL = gamma.clip(1 / FIXED_ONE)[:, pool]
        spent_CL = spent[:, pool]
        left = total * squares[pool]
        least = excess * squares[pool] * 0.5
        spent_before = (spent_CL.cumsum(axis=0) - spent_CL)[np.arange(columns) // width * width]
        share_CL = gamma_CL / (left + sign_of_row * spent_before).clip(1 / FIXED_ONE)
        values_CL = values[rows].T.copy()
        seen_CL, squares_CL = np.zeros(values_CL.shape), np.zeros(values_CL.shape)
        whole = centre = np.zeros(len(rows), dtype=np.int64)
        sign, row_sums = 1, np.zeros(len(rows))
        states_CL = states_CL[:, : len(rows)] * ~begins[rows]
        for column in range(0, columns, width):
            block, following = slice(column, column + width), slice(column + along, column + along + width)
            parity = states_CL[block] & 1
            rest = np.maximum(left + row_sums * row_sums / columns, least)
            table = square_bins(rest * share_CL[block]) * CENTRES
            if predictors or walk is not None:
                centre = 0.0
                if predictors:
                    centres = [each.centres(seen_CL, column) for each in predictors]
                    centre = np.choose(kind, centres) if kinds > 1 else centres[0]
                if walk is not None:
                    centre = (centre - parity) * 0.5
                whole = np.rint(centre)
                quarter = np.rint((centre - whole) * 4.0)
                sign = np.where(quarter < 0, -1.0, 1.0)
                table += (quarter * sign).astype(np.int64)
            symbols = ((values_CL[block] - whole) * sign).astype(np.int64) + reach
            symbols = coder.code(tables.cumulative, table.reshape(-1), symbols.reshape(-1)).reshape(table.shape)
            values_CL[block] = value = (symbols - reach) * sign + whole
            square = (value - centre) * (value - centre)
            tables.update(table.reshape(-1), symbols.reshape(-1))
            if walk is not None:
                seen_CL[block] = 2 * value + parity
                states_CL[following] = walk.take(2 * states_CL[block] + (value.astype(np.int64) & 1))
            else:
                seen_CL[block] = value
            squares_CL[block] = square = to_fixed(square)
            if excess:
                level = value + parity * 0.5
                left -= (level * level).sum(axis=0)
                row_sums += level.sum(axis=0)
            else:
                left += square.sum(axis=0)
        values[rows] = values_CL.T
        for each, predictor in enumerate(predictors):
            predictor.learn(seen_CL[:, kind == each])
        sums += squares_CL @ np.eye(len(weights))[pool]
        weights += np.bincount(pool, to_fixed(squares_CL.sum(axis=0) / gamma_CL.sum(axis=0)), len(weights))
