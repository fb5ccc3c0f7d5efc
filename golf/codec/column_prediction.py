"""Linear prediction of a weight from the weights before it in its row, learned from the rows already coded.

With S = X^T X + ridge the second moments of the columns and S = L D L^T, the least-squares prediction of column c is

    x_c ~ sum over s < c of B[c, s]·x_s,     B = I - L^-1

Rows of token embeddings share directions (0.1 to 0.2 bit per weight in trained ones); most other matrices share none.
Determinism: S is exact (integers in float64), the factorisation uses single float64 operations in a fixed order and no
library routine, and B is rounded to 1/4096, so that predictions are exact sums of integers, in any order.
"""

import numpy as np

PREDICTION_ONE = 4096.0
PREDICTION_BLOCK = 32


def prediction_matrix(second_moments: np.ndarray, ridge: float) -> np.ndarray:
    """B·4096, rounded, from the second moments [C, C] of the columns and what is added to their diagonal."""
    columns = len(second_moments)
    work = second_moments + ridge * np.eye(columns)
    inverse = np.eye(columns)
    for column in range(columns - 1):
        factors = work[column + 1 :, column, None] / work[column, column]
        work[column + 1 :, column + 1 :] -= factors * work[column, column + 1 :]
        inverse[column + 1 :, : column + 1] -= factors * inverse[column, : column + 1]
    return np.rint((np.eye(columns) - inverse) * PREDICTION_ONE)


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
        return np.clip(sums / PREDICTION_ONE, -self.limit, self.limit)

    def learn(self, values_CL: np.ndarray) -> None:
        """Learn from finished rows; new weights come each time that a third more rows were seen."""
        self.moments += values_CL @ values_CL.T
        self.rows_seen += values_CL.shape[1]
        if self.rows_seen >= self.rows_due:
            mean = float(np.trace(self.moments)) / len(self.moments)
            self.weights = prediction_matrix(self.moments, self.ridge * max(mean, 1.0) / self.rows_seen)
            self.rows_due = self.rows_seen + self.rows_seen // 3

    def mean_squares(self, otherwise: np.ndarray) -> np.ndarray:
        """Mean square of each column [C, 1], or `otherwise` before any was seen."""
        return self.moments.diagonal()[:, None] / self.rows_seen + 0 * otherwise if self.rows_seen else otherwise
