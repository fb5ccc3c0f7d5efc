"""What an entropy coder expects of a quantised weight, learned from the weights already coded.

A code x is coded by an adaptive table that is chosen by two numbers: an expected centre p and an expected square e
about it. Tables begin as normal distributions and are shared by all matrices of a stream: a table is the shape of a
distribution, whoever has it.
Determinism: counts are integers; the rest is one correctly rounded float64 operation at a time, logarithms and
exponentials included, so that encoder and decoder agree on every machine.
"""

import numpy as np

from golf.codec.rans import PROBABILITY_ONE

CENTRES = 3
BINS_PER_OCTAVE_BITS = 3
LOWEST_OCTAVE = -10
SQUARE_BINS = 26 << BINS_PER_OCTAVE_BITS
PRIOR_WEIGHT = 500
COUNT_STEP = 24


def rough_log2(values: np.ndarray) -> np.ndarray:
    """log2 of positive numbers, linear between powers of two (J. N. Mitchell 1962): read off the bits of a float."""
    return values.astype(np.float64).view(np.int64) / 2.0**52 - 1023.0


def rough_exp2(values: np.ndarray) -> np.ndarray:
    """The inverse of `rough_log2`, within 2^±64."""
    return ((values.clip(-64.0, 64.0) + 1023.0) * 2.0**52).astype(np.int64).view(np.float64)


def square_bins(squares: np.ndarray) -> np.ndarray:
    """Bin of an expected square: eight to an octave."""
    shift, first = 52 - BINS_PER_OCTAVE_BITS, (1023 + LOWEST_OCTAVE) << BINS_PER_OCTAVE_BITS
    return np.minimum(np.maximum((squares.view(np.int64) >> shift) - first, 0), SQUARE_BINS - 1)


class AdaptiveTables:
    """Frequencies of 2^20 that follow what was seen.

    They begin as normal distributions with a little of a wider one. What is seen counts a third for the next smaller
    and the next larger square, too, whose shapes are nearly the same.

    Args:
        reach: symbols are -reach … reach.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.symbols = 2 * reach + 1
        middles = rough_exp2((np.arange(SQUARE_BINS) + 0.5) / (1 << BINS_PER_OCTAVE_BITS) + LOWEST_OCTAVE)
        distance = np.abs(np.arange(-reach, reach + 1) - np.arange(CENTRES)[:, None] / 4.0)
        squares = distance * distance / middles.clip(0.09)[:, None, None]
        shape = rough_exp2(-0.72 * squares) + rough_exp2(-1.44 * np.sqrt(squares)) * 0.004
        counts = np.floor(shape / shape.cumsum(axis=2)[:, :, -1:] * (PRIOR_WEIGHT * COUNT_STEP))
        counts[:, :, reach - 1 : reach + 2] += 1
        self.counts = counts.reshape(-1, self.symbols).astype(np.int64)
        padded = 1 << (self.symbols - 1).bit_length()
        self.cumulative = np.full((len(self.counts), padded + 1), PROBABILITY_ONE)
        self.seen = 0
        self.due = 0
        self.news: list[np.ndarray] = []
        self.refresh(np.arange(len(self.counts)))

    def refresh(self, rows: np.ndarray) -> None:
        """Make frequencies from counts: one for every symbol, the rest in proportion, what is left to the largest."""
        counts = self.counts[rows]
        frequency = 1 + counts * (PROBABILITY_ONE - self.symbols) // counts.sum(axis=1, keepdims=True)
        frequency[np.arange(len(rows)), counts.argmax(axis=1)] += PROBABILITY_ONE - frequency.sum(axis=1)
        self.cumulative[rows, 0] = 0
        self.cumulative[rows, 1 : self.symbols + 1] = frequency.cumsum(axis=1)

    def update(self, rows: np.ndarray, symbols: np.ndarray) -> None:
        """Count symbols (0 … 2·reach) that were coded with tables `rows`; they tell at the next refreshment."""
        self.news.append(rows * self.symbols + symbols)
        self.seen += len(rows)
        if self.seen >= self.due:
            found = np.bincount(np.concatenate(self.news), minlength=self.counts.size).reshape(self.counts.shape)
            found = COUNT_STEP * found + COUNT_STEP // 3 * (np.roll(found, CENTRES, 0) + np.roll(found, -CENTRES, 0))
            self.counts += found
            self.refresh(np.flatnonzero(found.any(axis=1)))
            self.due = self.seen + max(128, self.seen >> 6)
            self.news = []
