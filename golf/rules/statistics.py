"""Welch's test without scipy: is one mean below another by more than a margin?

t = (m_b - m_a - margin) / sqrt(v_a/n_a + v_b/n_b), one-sided p = P(T > t) with Welch-Satterthwaite degrees of freedom;
the tail of Student's t is I_x(ν/2, 1/2)/2 at x = ν/(ν + t²), the incomplete beta by Lentz's continued fraction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Welch:
    """gain: mean of the old minus mean of the new; p: one-sided, of a gain no larger than the margin."""

    gain: float
    margin: float
    t: float
    degrees: float
    p: float


def welch(new: Sequence[float], old: Sequence[float], margin: float = 0.0) -> Welch | None:
    """Test `mean(old) - mean(new) > margin`; None with fewer than two values on a side."""
    if min(len(new), len(old)) < 2:
        return None
    gain = _mean(old) - _mean(new)
    parts = [_variance(values) / len(values) for values in (new, old)]
    if not sum(parts):
        certain = gain > margin
        return Welch(gain, margin, math.copysign(math.inf, gain - margin), math.inf, 0.0 if certain else 1.0)
    t = (gain - margin) / math.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (new, old)))
    return Welch(gain, margin, t, degrees, student_tail(t, degrees))


def student_tail(t: float, degrees: float) -> float:
    """P(T > t) of Student's t."""
    half = 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))
    return half if t >= 0 else 1 - half


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _fraction(b, a, 1 - x) / b
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 + term * d, 1 + term / c
            d, c = 1 / (d if abs(d) > tiny else tiny), c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return result


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
