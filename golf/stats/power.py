"""What a number of seeds can show: the effect that a test would find, and the seeds that an effect asks for.

For two samples of n with the common deviation s, the one-sided t-test at level alpha has the power
P(T'(2n - 2, d) > t_alpha), T' Student's noncentral t with d = (effect - margin) / (s sqrt(1/n_new + 1/n_old)).
"""

from __future__ import annotations

import math

from golf.stats.gain import student_quantile

POWER = 0.8
MOST_SEEDS = 200


def power(effect: float, deviation: float, new: int, old: int, alpha: float, margin: float = 0.0) -> float:
    """Probability that `new` against `old` seeds show an effect that is really there."""
    from scipy.special import nctdtr

    degrees = new + old - 2
    if degrees < 1 or min(new, old) < 1:
        return 0.0
    error = deviation * math.sqrt(1 / new + 1 / old)
    if not error:
        return float(effect > margin)
    shift, critical = (effect - margin) / error, student_quantile(alpha, degrees)
    if shift > 35:  # far beyond any doubt, where scipy's series gives up
        return 1.0
    return 1.0 - float(nctdtr(degrees, shift, critical))


def detectable_effect(deviation: float, new: int, old: int, alpha: float, margin: float = 0.0) -> float | None:
    """The smallest true gain that is shown with a probability of 0.8; None with fewer than two seeds on a side."""
    if min(new, old) < 2:
        return None
    low, high = margin, margin + deviation * math.sqrt(1 / new + 1 / old)
    while power(high, deviation, new, old, alpha, margin) < POWER:
        high = margin + 2 * (high - margin)
        if not high - margin < 1e6 * (deviation or 1):
            return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, deviation, new, old, alpha, margin) < POWER else (low, middle)
    return high


def seeds_needed(
    gain: float, deviation: float, new: int, old: int, alpha: float, margin: float = 0.0, old_is_fixed: bool = False
) -> int | None:
    """How many more seeds (of both, or of the new alone) would show a gain as large as the one seen, with a probability
    of 0.8; None: not within 200, or the gain is no larger than the margin."""
    if gain <= margin:
        return None
    for more in range(MOST_SEEDS + 1):
        sides = new + more, old if old_is_fixed else max(old, new + more)
        if min(sides) >= 2 and power(gain, deviation, *sides, alpha, margin) >= POWER:
            return more
    return None
