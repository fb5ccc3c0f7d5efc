"""Is one mean below another by more than a margin? Welch's test, and the paired one for shared seeds.

Welch: t = (m_old - m_new - margin) / sqrt(v_new/n_new + v_old/n_old) with Welch-Satterthwaite degrees of freedom;
paired: the one-sample test of the differences by seed. p is one-sided: P(T > t). Lower scores are better, so a gain is
positive. Invariant: with fewer than two values on a side there is no test and no interval, never a p of a guess.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """A gain and its test.

    Attributes:
        gain: mean of the old minus mean of the new, in the unit of the scores. margin: what it must exceed.
        error: standard error of the gain. t, degrees: of Student's t.
        p: one-sided, of a gain no larger than the margin.
        low, high: two-sided 95 % interval of the gain.
    """

    gain: float
    margin: float
    error: float
    t: float
    degrees: float
    p: float
    low: float
    high: float


def student_tail(t: float, degrees: float) -> float:
    """P(T > t) of Student's t."""
    from scipy.special import stdtr

    return float(t < 0) if math.isinf(t) else float(stdtr(degrees, -t))


def student_quantile(p: float, degrees: float) -> float:
    """The t with P(T > t) = p."""
    from scipy.special import stdtrit

    return -float(stdtrit(degrees, p))


def welch(new: Sequence[float], old: Sequence[float], margin: float = 0.0) -> Gain | None:
    """Test `mean(old) - mean(new) > margin` for unequal variances; None with fewer than two values on a side."""
    if min(len(new), len(old)) < 2:
        return None
    parts = [statistics.variance(values) / len(values) for values in (new, old)]
    gain, total = statistics.fmean(old) - statistics.fmean(new), sum(parts)
    if not total:
        return _certain(gain, margin)
    degrees = total**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (new, old)))
    return _tested(gain, margin, math.sqrt(total), degrees)


def paired(new: Mapping[str, float], old: Mapping[str, float], margin: float = 0.0) -> Gain | None:
    """Test the mean of `old - new` over the seeds that both have; None with fewer than two of them."""
    differences = [old[seed] - new[seed] for seed in new if seed in old]
    if len(differences) < 2:
        return None
    gain, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    return _tested(gain, margin, error, len(differences) - 1) if error else _certain(gain, margin)


def pooled_deviation(*samples: Sequence[float]) -> float | None:
    """Common standard deviation of several samples (n - 1 of each); None where no sample has two values."""
    degrees = sum(len(values) - 1 for values in samples if values)
    if degrees < 1:
        return None
    squares = sum((len(values) - 1) * statistics.variance(values) for values in samples if len(values) > 1)
    return math.sqrt(squares / degrees)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, adjusted so that one false finding among all has the probability given
    (Holm 1979: step-down Bonferroni)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _tested(gain: float, margin: float, error: float, degrees: float) -> Gain:
    t, half = (gain - margin) / error, student_quantile((1 - LEVEL) / 2, degrees) * error
    return Gain(gain, margin, error, t, degrees, student_tail(t, degrees), gain - half, gain + half)


def _certain(gain: float, margin: float) -> Gain:
    """Scores without any spread: the gain is what it is."""
    t = math.copysign(math.inf, gain - margin) if gain != margin else 0.0
    return Gain(gain, margin, 0.0, t, math.inf, 0.5 if t == 0 else float(t < 0), gain, gain)
