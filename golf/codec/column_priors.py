"""What the columns of a matrix are expected to vary by before any of it is read: from vectors that belong to them.

Column c of an MLP's output matrix reads hidden unit c, whose row of the input matrix has a scale, and the mean squares
of such columns follow these scales closely (correlation of the logarithms 0.87 to 0.99 in trained networks); those of
query, key and value follow the residual mixing coefficients of their layer (0.4 to 0.9). Which vector belongs to which
matrix is not told by names: the encoder takes the one with the highest correlation of all 16-bit floats of the file
that are as long, twice, and writes its number and the slope of the logarithms.
Invariant: everything is integers, or single float64 operations on them: the same on every machine.
"""

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
from torch import Tensor

from golf.codec.weight_model import rough_exp2, rough_log2

LOG_ONE = 1024
SLOPE_ONE = 16
REFERENCES = 2


def rounded_log2(values: np.ndarray) -> np.ndarray:
    """log2 in units of 1/1024, less its mean."""
    logs = np.rint(rough_log2(np.clip(np.nan_to_num(values), 2.0**-30, 2.0**30)) * LOG_ONE).astype(np.int64)
    return logs - logs.sum() // max(1, len(logs))


def side_vectors(known: Sequence[Tensor]) -> dict[int, list[np.ndarray]]:
    """Rounded logarithms of the squares of the vectors of a file, by length."""
    found: dict[int, list[np.ndarray]] = {}
    for tensor in known:
        if tensor.ndim and tensor.shape[-1] >= 16 and tensor.numel() <= 1 << 16:
            for vector in tensor.detach().cpu().double().numpy().reshape(prod(tensor.shape[:-1]), -1):
                found.setdefault(len(vector), []).append(rounded_log2(vector * vector))
    return {length: vectors[:255] for length, vectors in found.items()}


def fit_columns(codes_RC: np.ndarray, vectors: Sequence[np.ndarray]) -> tuple[int, ...]:
    """How the columns of a matrix follow from `vectors`.

    Returns:
        Root of the rows that the prior is worth (1 … 255); then twice the number (from 1) of a vector and its slope.
    """
    rows, columns = codes_RC.shape
    target = rounded_log2((codes_RC.astype(np.int64) ** 2).sum(axis=0).astype(np.float64) + 1e-3 * rows)
    found: list[int] = []
    for _ in range(REFERENCES):
        best, reference, slope = 8 * int((target * target).sum()) / columns, 0, 0
        for number, vector in enumerate(vectors):
            shared, own = int((target * vector).sum()), int((vector * vector).sum())
            if own and shared * shared / own > best:
                best, reference, slope = shared * shared / own, number + 1, round(SLOPE_ONE * shared / own)
        slope = max(-128, min(127, slope))
        if reference:
            target = target - slope * vectors[reference - 1] // SLOPE_ONE
        found += [reference, slope]
    spread = 0.48 * int((target * target).sum()) / (LOG_ONE * LOG_ONE * columns) - 2.0 / rows
    return (min(255, isqrt(int(2.0 / max(spread, 2.0**-16)))) or 1, *found)


def column_prior(columns: int, references: Sequence[int], vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The expected mean squares of columns, 1 on average, from what `fit_columns` said."""
    logs = np.zeros(columns, dtype=np.int64)
    for reference, slope in zip(references[::2], references[1::2]):
        if reference:
            logs = logs + slope * vectors[reference - 1] // SLOPE_ONE
    prior = np.rint(rough_exp2(np.clip(logs / LOG_ONE, -12.0, 12.0)) * 65536.0)
    return prior * columns / prior.sum()
