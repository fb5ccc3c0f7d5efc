"""Linear prediction of a weight from the weights before it in its row, learned from the rows already coded.

With S = X^T X + ridge the second moments of the columns and S = L D L^T, the least-squares prediction of column c is

    x_c ~ sum over s < c of B[c, s]·x_s,     B = I - L^-1

Rows of token embeddings share directions (0.1 to 0.2 bit per weight in trained ones); most other matrices share none.
Determinism: S is a sum of integers below 2^53, which float64 adds exactly whatever library, order or number
of threads multiplies the matrices; so is the sum of the rounded B (multiples of 1/4096) times integers. The
factorisation uses single float64 operations (+ - · /, each correctly rounded) in a fixed order, no library routine.
"""

import numpy as np

PREDICTION_ONE = 4096.0
PREDICTION_BLOCK = 32


def prediction_matrix(second_moments: np.ndarray, ridge: float) -> np.ndarray:
    """B·4096, rounded, from the second moments [C, C] of the columns and what is added to their diagonal."""
    identity = np.eye(len(second_moments))
    work, inverse = second_moments + ridge * identity, identity.copy()
    for column in range(len(work) - 1):
        factors = work[column + 1 :, column, None] / work[column, column]
        work[column + 1 :, column + 1 :] -= factors * work[column, column + 1 :]
        inverse[column + 1 :, : column + 1] -= factors * inverse[column, : column + 1]
    return np.rint((identity - inverse) * PREDICTION_ONE).clip(-(2.0**24), 2.0**24)


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
        self.rows_due = 1
        self.ridge = ridge
        self.limit = limit
        self.weights = np.zeros((columns, columns))

    def centres(self, values_CL: np.ndarray, column: int) -> np.ndarray:
        """Predicted value of every lane at `column` from the values of the columns before it."""
        first = column - column % PREDICTION_BLOCK
        if column == first:
            self.block = self.weights[first : first + PREDICTION_BLOCK, :first] @ values_CL[:first]
        sums = self.block[column - first] + self.weights[column, first:column] @ values_CL[first:column]
        return (sums / PREDICTION_ONE).clip(-self.limit, self.limit)

    def learn(self, values_CL: np.ndarray) -> None:
        """Learn from finished rows; new weights come the more rarely, the more columns there are: they take time."""
        self.moments += values_CL @ values_CL.T
        self.rows_seen += values_CL.shape[1]
        if self.rows_seen >= self.rows_due:
            mean = max(np.trace(self.moments) / len(self.moments), 1.0)
            self.weights = prediction_matrix(self.moments, self.ridge * mean / self.rows_seen)
            self.rows_due = self.rows_seen + 1 + self.rows_seen * self.moments.size // 2**19
