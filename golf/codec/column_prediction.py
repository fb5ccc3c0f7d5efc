"""Linear prediction of a weight from the weights before it in its row, learned from the rows already coded.

With S = X^T X + ridge the second moments of the columns and S = L D L^T, the least-squares prediction of column c is

    x_c ~ sum over s < c of B[c, s]·x_s,     B = I - L^-1

Rows of token embeddings share directions (0.1 to 0.2 bit per weight in trained ones); most other matrices share none.
Determinism: S is a sum of integers below 2^53, which float64 adds exactly whatever library, order or number
of threads multiplies the matrices; so are the sum of the rounded B (multiples of 1/4096) times integers and the
products of the elimination's rounded blocks. The rest of it uses single float64 operations (+ - · /, each correctly
rounded) in a fixed order, no library routine.
"""

import numpy as np

PREDICTION_ONE = 4096.0
PREDICTION_BLOCK = 32


def prediction_matrix(second_moments: np.ndarray, ridge: float) -> np.ndarray:
    """B·4096, rounded, from the second moments [C, C] of the columns and what is added to their diagonal.

    Elimination in [S, I], a block of columns at a time: what a block changes in the rows below it is a product of
    matrices that are rounded to multiples of 2^-16 below 2^7, in units of the mean of the diagonal.
    """
    columns, most = len(second_moments), 2.0**23
    unit = columns / max(np.trace(second_moments), columns)
    work = np.hstack([second_moments * unit + ridge * unit * np.eye(columns), np.eye(columns)])
    for first in range(0, columns, PREDICTION_BLOCK):
        last = min(first + PREDICTION_BLOCK, columns)
        right = slice(last, columns + last)  # beyond, L^-1 has zeros
        for column in range(first, last):
            factors = work[column + 1 :, column, None] / max(work[column, column], 2.0**-12)
            work[column + 1 :, column + 1 : last] -= factors * work[column, column + 1 : last]
            work[column + 1 : last, right] -= factors[: last - column - 1] * work[column, right]
            work[column + 1 :, column, None] = factors
        factors, block = (
            np.rint(each * 65536.0).clip(-most, most) for each in (work[last:, first:last], work[first:last, right])
        )
        work[last:, right] -= factors @ block / 2.0**32
    return np.rint((np.eye(columns) - work[:, columns:]) * PREDICTION_ONE).clip(-(2.0**24), 2.0**24)


class ColumnPredictor:
    """Predictions for lanes of rows of one matrix width.

    Args:
        columns: columns of the matrix.
        ridge: added to the diagonal of the second moments, in units of their mean, for so many rows.
        limit: largest magnitude of a prediction.
    """

    def __init__(self, columns: int, ridge: float, limit: float) -> None:
        self.moments = np.zeros((columns, columns))
        self.rows_seen = 0
        self.ridge = ridge
        self.limit = limit
        self.weights = np.zeros((columns, columns))

    def centres(self, values_CL: np.ndarray, column: int) -> np.ndarray:
        """Predicted value of every lane at `column` from the values of the columns before it."""
        first = column - column % PREDICTION_BLOCK
        if column == first:
            self.block = self.weights[first : first + PREDICTION_BLOCK, :first] @ values_CL[:first]
        sums = self.block[column - first] + self.weights[column, first:column] @ values_CL[first:column]
        return np.maximum(np.minimum(sums / PREDICTION_ONE, self.limit), -self.limit)

    def learn(self, values_CL: np.ndarray) -> None:
        """Learn from finished rows."""
        self.moments += values_CL @ values_CL.T
        self.rows_seen += values_CL.shape[1]
        mean = max(np.trace(self.moments) / len(self.moments), 1.0)
        self.weights = prediction_matrix(self.moments, self.ridge * mean / max(1, self.rows_seen))
