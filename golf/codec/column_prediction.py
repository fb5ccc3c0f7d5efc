"""Linear prediction of a weight from the weights before it in its row, learned from the rows already coded.

With S = X^T X + ridge the second moments of the columns and S = L D L^T, the least-squares prediction of column c is

    x_c ~ sum over s < c of B[c, s]·x_s,     B = I - L^-1

Where columns are coded several together, none of them tells of another: their rows of B are those that the elimination
has come to when it reaches the first of them.
Rows of token embeddings share directions (0.1 to 0.2 bit per weight in trained ones); most other matrices share none.
Determinism: S is a sum of integers below 2^53, which float64 adds exactly whatever library, order or number
of threads multiplies the matrices; so are the sum of the rounded B (multiples of 1/4096) times integers and the
products of the elimination's rounded blocks. The rest of it uses single float64 operations (+ - · /, each correctly
rounded) in a fixed order, no library routine.
"""

import numpy as np

PREDICTION_ONE = 4096.0
PREDICTION_BLOCK = 16


def prediction_matrix(second_moments: np.ndarray, ridge: float, together: int) -> np.ndarray:
    """B·4096, rounded, from the second moments [C, C] of the columns and what is added to their diagonal.

    `together`: so many columns are predicted from those before them, a divisor of PREDICTION_BLOCK.
    Elimination in [S, I], a block of rows at a time: what all rows above change in it is a product of matrices that are
    rounded to multiples of 2^-15 and 2^-16 below 2^6, in units of the mean of the diagonal.
    """
    columns = len(second_moments)
    unit = columns / max(np.trace(second_moments), columns)
    work = np.hstack([second_moments * unit + ridge * unit * np.eye(columns), np.eye(columns)])
    factors, rounded, found = np.zeros((columns, columns)), np.zeros(work.shape), np.eye(columns)
    for first in range(0, columns, PREDICTION_BLOCK):
        last = min(first + PREDICTION_BLOCK, columns)
        reach = slice(first, columns + last)  # before and beyond there are zeros
        rows = work[first:last, reach] - factors[first:last, :first] @ rounded[:first, reach] / 2.0**31
        for row in range(last - first):
            if row % together == 0:
                found[first + row : first + row + together, :last] -= rows[row : row + together, columns - first :]
            rows[row + 1 :] -= rows[row + 1 :, row, None] / max(rows[row, row], 2.0**-12) * rows[row]
        rounded[first:last, reach] = np.rint(rows * 2.0**16).clip(-(2.0**22), 2.0**22)
        rows = rows[:, last - first : columns - first] / rows.diagonal()[:, None].clip(2.0**-12)
        factors[last:, first:last] = np.rint(rows.T * 2.0**15).clip(-(2.0**21), 2.0**21)
    return np.rint(found * PREDICTION_ONE).clip(-(2.0**24), 2.0**24)


class ColumnPredictor:
    """Predictions for runs of rows of one matrix width.

    Args:
        columns: columns of the matrix.
        together: how many columns are predicted from those before them.
        ridge: added to the diagonal of the second moments, in units of their mean, for so many rows.
        limit: largest magnitude of a prediction.
    """

    def __init__(self, columns: int, together: int, ridge: float, limit: float) -> None:
        self.moments = np.zeros((columns, columns))
        self.rows_seen = self.rows_due = 0
        self.together = together
        self.ridge = ridge
        self.limit = limit
        self.weights = np.zeros((columns, columns))

    def centres(self, values_CL: np.ndarray, column: int) -> np.ndarray:
        """Predicted values [together, runs] from `column` on, from the values of the columns before it."""
        first, last = column - column % PREDICTION_BLOCK, column + self.together
        if column == first:
            self.block = self.weights[first : first + PREDICTION_BLOCK, :first] @ values_CL[:first]
        sums = (
            self.block[column - first : last - first]
            + self.weights[column:last, first:column] @ values_CL[first:column]
        )
        return np.maximum(np.minimum(sums / PREDICTION_ONE, self.limit), -self.limit)

    def learn(self, values_CL: np.ndarray) -> None:
        """Learn from finished rows; they tell at the next elimination.

        That is due when a share of all rows are new, a quarter at 512 columns, where eliminating costs the most.
        """
        self.moments += values_CL @ values_CL.T
        self.rows_seen += values_CL.shape[1]
        if self.rows_seen >= self.rows_due:
            mean = max(np.trace(self.moments) / len(self.moments), 1.0)
            ridge = self.ridge * mean / max(1, self.rows_seen)
            self.weights = prediction_matrix(self.moments, ridge, self.together)
            self.rows_due = self.rows_seen + self.rows_seen * self.moments.size // 2**20
