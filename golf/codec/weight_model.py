"""What an entropy coder expects of a quantised weight, learned from the weights already coded.

A code x in row r and column c of a matrix is coded by an adaptive table that is chosen by two numbers, its expected
centre p and its expected magnitude e about that centre:

    e = rho_r · gamma_c      rho: mean |x - p| of this row so far, relative to its columns; gamma: of this column so far
    p = sum over s < c of B[c, s]·x[r, s]   (optional, golf/codec/column_prediction.py)

Tables are shared by all matrices of a stream: a table is the shape of a distribution, whoever has it.
Determinism: counts and sums are integers (or float64 that hold integers, exact in any order); everything else is one
correctly rounded float64 operation at a time, so that encoder and decoder agree on every machine.
"""

import numpy as np

from golf.codec.protocol import damaged_stream
from golf.codec.rans import PROBABILITY_ONE

BINS_PER_OCTAVE = 8
LOWEST_OCTAVE = -5
OCTAVES = 13
MAGNITUDE_BINS = BINS_PER_OCTAVE * OCTAVES
# 2^(i/8), i = 0 … 7: where the bins of an octave begin.
OCTAVE_EDGES = (1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142136, 1.5422108, 1.6817928, 1.8340081)
CENTRES = 3
PRIOR_WEIGHT = 100
COUNT_STEP = 24
COUNT_LIMIT = 1 << 22


def magnitude_edges() -> np.ndarray:
    """Lower edges of the bins of expected magnitude (the first and the last bin have no outer edge)."""
    octaves = range(LOWEST_OCTAVE, LOWEST_OCTAVE + OCTAVES)
    return np.array([edge * 2.0**octave for octave in octaves for edge in OCTAVE_EDGES])


def falling_exponential(values: np.ndarray) -> np.ndarray:
    """About exp(-values), by multiplications alone: the same bits on every machine (a library's exp is not)."""
    power = 1.0 - np.minimum(values, 4096.0) / 4096.0
    for _ in range(12):
        power = power * power
    return power


def prior_counts(reach: int) -> np.ndarray:
    """Counts [bins · 3, 2·reach + 1] before any weight was seen: normal distributions with a little of a wider one."""
    deviation = np.maximum(magnitude_edges() * 1.31, 0.3)[:, None, None]
    distance = np.abs(np.arange(-reach, reach + 1)[None, None, :] - np.arange(CENTRES)[None, :, None] / 4.0) / deviation
    shape = falling_exponential(distance * distance * 0.5) + falling_exponential(distance) * 0.004
    total = shape[:, :, 0]
    for symbol in range(1, shape.shape[2]):
        total = total + shape[:, :, symbol]
    counts = np.floor(shape / total[:, :, None] * (PRIOR_WEIGHT * COUNT_STEP)).astype(np.int64)
    counts[:, :, max(0, reach - 1) : reach + 2] += 1
    return counts.reshape(-1, 2 * reach + 1)


class AdaptiveTables:
    """Frequencies of 2^16 that follow what was seen.

    Args:
        reach: symbols are -reach … reach.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.symbols = 2 * reach + 1
        self.counts = prior_counts(reach)
        padded = 1 << (self.symbols - 1).bit_length()
        self.cumulative = np.full((len(self.counts), padded + 1), PROBABILITY_ONE, dtype=np.int64)
        self.seen = 0
        self.due = 0
        self.touched = np.ones(len(self.counts), dtype=bool)
        self.refresh()

    def copy(self) -> "AdaptiveTables":
        """The same tables, learning on their own from here."""
        twin = AdaptiveTables(self.reach)
        twin.counts, twin.cumulative = self.counts.copy(), self.cumulative.copy()
        twin.touched, twin.seen, twin.due = self.touched.copy(), self.seen, self.due
        return twin

    def refresh(self) -> None:
        """Make frequencies from counts: one for every symbol, the rest in proportion, what is left to the largest."""
        rows = np.flatnonzero(self.touched)
        counts = self.counts[rows]
        total = counts.sum(axis=1, keepdims=True)
        frequency = 1 + counts * (PROBABILITY_ONE - self.symbols) // total
        frequency[np.arange(len(rows)), counts.argmax(axis=1)] += PROBABILITY_ONE - frequency.sum(axis=1)
        self.cumulative[rows, 0] = 0
        self.cumulative[rows, 1 : self.symbols + 1] = frequency.cumsum(axis=1)
        old = rows[total[:, 0] > COUNT_LIMIT * COUNT_STEP]
        self.counts[old] -= self.counts[old] >> 1
        self.touched[:] = False

    def require(self, symbols: np.ndarray) -> None:
        """Refuse symbols beyond the alphabet, which no encoder writes."""
        if (symbols >= self.symbols).any():
            raise damaged_stream("range", "a symbol that no table has")

    def update(self, rows: np.ndarray, symbols: np.ndarray) -> None:
        """Count symbols (0 … 2·reach) that were coded with tables `rows`."""
        np.add.at(self.counts.reshape(-1), rows * self.symbols + symbols, COUNT_STEP)
        self.touched[rows] = True
        self.seen += len(rows)
        if self.seen >= self.due:
            self.refresh()
            self.due = self.seen + max(256, self.seen >> 6)


class MagnitudeModel:
    """Expected magnitudes of one family of matrices with equal columns.

    Args:
        pools: number of matrices; each learns its own columns.
        columns: columns of each matrix.
        means: mean |x| of each matrix, known to both sides.
    """

    def __init__(self, pools: int, columns: int, means: np.ndarray, row_prior: float, column_prior: float) -> None:
        self.edges = magnitude_edges()[1:]
        self.means = np.maximum(means, 2.0**-8)
        self.row_prior, self.column_prior = row_prior, column_prior
        self.column_sums = np.zeros((columns, pools))
        self.column_weights = np.zeros((columns, pools))

    def start_rows(self, pool: np.ndarray) -> None:
        """Begin one row in each lane; `pool` is the matrix of each."""
        self.pool = pool
        self.row_sums = self.row_prior * self.means[pool]
        self.row_weights = self.row_sums.copy()

    def bins(self, column: int) -> np.ndarray:
        """Bin of expected magnitude of every lane at `column`."""
        prior = self.column_prior
        gamma = (self.column_sums[column] / 256.0 + prior * self.means) / (self.column_weights[column] / 256.0 + prior)
        self.gamma = gamma[self.pool]
        self.rho = self.row_sums / self.row_weights
        return np.searchsorted(self.edges, self.rho * self.gamma, side="right")

    def update(self, column: int, magnitudes: np.ndarray) -> None:
        """Learn from |x - p| of every lane at `column`."""
        self.row_sums += magnitudes
        self.row_weights += self.gamma
        pools = self.column_sums.shape[1]
        self.column_sums[column] += np.bincount(self.pool, np.rint(magnitudes * 256.0), pools)
        self.column_weights[column] += np.bincount(self.pool, np.rint(self.rho * 256.0), pools)
