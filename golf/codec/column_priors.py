"""What the columns of a matrix are expected to vary by before any of it is read: from vectors that belong to them.

Column c of an MLP's output matrix reads hidden unit c, whose row of the input matrix has a scale, and the mean squares
of such columns follow these scales closely (correlation of the logarithms 0.87 to 0.99 in trained networks); those of
query, key and value follow the residual mixing coefficients of their layer (0.4 to 0.9). Which vector belongs to which
matrix is not told by names: the encoder takes the one with the highest correlation of all 16-bit floats of the file
that are as long, and writes its number and the slope of the logarithms (a second vector gains less than 0.01 %).
Invariant: everything is integers, or single float64 operations on them: the same on every machine.
"""

from collections.abc import Sequence
from math import isqrt

import numpy as np
from torch import Tensor

from golf.codec.weight_model import rough_exp2, rough_log2

LOG_ONE = 1024
SLOPE_ONE = 16


def rounded_log2(values: np.ndarray) -> np.ndarray:
    """log2 in units of 1/1024, less its mean."""
    logs = np.rint(rough_log2(np.nan_to_num(values).clip(2.0**-30, 2.0**30)) * LOG_ONE).astype(np.int64)
    return logs - logs.sum() // max(1, len(logs))


def side_vectors(known: Sequence[Tensor]) -> dict[int, list[np.ndarray]]:
    """Rounded logarithms of the squares of the vectors of a file, by length; the first of each length is zeros."""
    found: dict[int, list[np.ndarray]] = {}
    for tensor in known:
        if tensor.ndim and tensor.shape[-1] >= 16 and tensor.numel() <= 1 << 16:
            for vector in tensor.detach().cpu().double().reshape(-1, tensor.shape[-1]).numpy():
                vectors = found.setdefault(len(vector), [np.zeros(len(vector), dtype=np.int64)])
                if len(vectors) < 256:
                    vectors.append(rounded_log2(vector * vector))
    return found


def fit_columns(codes_RC: np.ndarray, vectors: Sequence[np.ndarray]) -> tuple[int, int, int]:
    """How the columns of a matrix follow from `vectors`.

    Returns:
        Root of the rows that the prior is worth (1 … 255), the number of a vector, and its slope.
    """
    rows, columns = codes_RC.shape
    target = rounded_log2((codes_RC.astype(np.int64) ** 2).sum(axis=0) + 1e-3 * rows)
    best, reference, slope = 8 * int((target * target).sum()) / columns, 0, 0
    for number, vector in enumerate(vectors):
        shared, own = int((target * vector).sum()), int((vector * vector).sum()) or 1
        if shared * shared / own > best:
            best, reference, slope = shared * shared / own, number, round(SLOPE_ONE * shared / own)
    slope = max(-128, min(127, slope))
    if reference:
        target = target - slope * vectors[reference] // SLOPE_ONE
    # Variance of the natural logarithm, beyond that of a mean square of normal codes; small ones may be chance.
    noise = 2.0 / rows
    spread = 0.48 * int((target * target).sum()) / (LOG_ONE * LOG_ONE * columns) - noise
    chance = noise * 3.0 / columns**0.5
    return (min(255, isqrt(int(2.0 / max(spread, 2.0**-16)))) or 1 if spread > chance else 255), reference, slope


def column_prior(columns: int, reference: int, slope: int, vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The expected mean squares of columns, 1 on average, from what `fit_columns` said."""
    logs = slope * vectors[reference] // SLOPE_ONE if reference else np.zeros(columns)
    prior = np.rint(rough_exp2((logs / LOG_ONE).clip(-12.0, 12.0)) * 65536.0)
    return prior * columns / prior.sum()
