"""Linear prediction of a weight from the weights before it in its row, learned from the rows already coded.

With S = X^T X + ridge the second moments of the columns and S = L D L^T, the least-squares prediction of column c is

    x_c ~ sum over s < c of B[c, s]·x_s,     B = I - L^-1

Rows of token embeddings share directions (0.2 bit per weight in trained ones); most other matrices share none.
Determinism: S is exact (integers in float64), the factorisation uses single float64 operations in a fixed order and no
library routine, and B is rounded to 1/4096, so that predictions are exact sums of integers.
"""

import numpy as np

PREDICTION_ONE = 4096.0


def prediction_matrix(second_moments: np.ndarray, ridge: float) -> np.ndarray:
    """B·4096, rounded, from the second moments [C, C] of the columns and what is added to their diagonal."""
    work = second_moments.copy()
    columns = len(work)
    work[np.arange(columns), np.arange(columns)] += ridge
    inverse = np.eye(columns)
    for column in range(columns - 1):
        factors = work[column + 1 :, column] / work[column, column]
        work[column + 1 :, column + 1 :] -= factors[:, None] * work[column, None, column + 1 :]
        inverse[column + 1 :, : column + 1] -= factors[:, None] * inverse[column, None, : column + 1]
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

    def start_rows(self, lanes: int) -> None:
        """Begin one row in each lane, with the newest weights."""
        if self.rows_seen >= self.rows_due:
            mean = float(np.trace(self.moments)) / len(self.moments)
            self.weights = prediction_matrix(self.moments, self.ridge * max(mean, 1.0) / self.rows_seen)
            self.rows_due = self.rows_seen + self.rows_seen // 6
        self.sums = np.zeros((lanes, len(self.weights)))
        self.values = np.zeros((lanes, len(self.weights)))

    def centres(self, column: int) -> np.ndarray:
        """Predicted value of every lane at `column`."""
        return np.clip(self.sums[:, column] / PREDICTION_ONE, -self.limit, self.limit)

    def update(self, column: int, values: np.ndarray) -> None:
        """Add what the values at `column` say about the columns after it."""
        self.values[:, column] = values
        if self.rows_seen:
            self.sums[:, column + 1 :] += values[:, None] * self.weights[None, column + 1 :, column]

    def end_rows(self) -> None:
        """Learn from the finished rows."""
        self.moments += self.values.T @ self.values
        self.rows_seen += len(self.values)
