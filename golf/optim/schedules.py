"""Schedules: pure functions of progress. Multipliers of the learning rate, and ramps of other quantities.

Because they read `Progress` (steps, seconds and tokens against their limits) the same schedule serves a time budget, a
step budget and a token budget, and its value is the same on every rank.
"""

import math
from collections.abc import Callable
from typing import Any

from golf.progress import Progress


class Constant:
    """Always `value`."""

    def __init__(self, value: float = 1.0):
        self.value = value

    def __call__(self, progress: Progress) -> float:
        return self.value


class WarmdownSteps:
    """1, then linearly to 0 over what the last `warmdown_steps` steps take (the baseline's rule).

    Under a time limit the length is measured in seconds: with e seconds used in s steps, the last
    w = warmdown_steps · e / max(s, 1) seconds; multiplier = remaining / w once remaining <= w. Otherwise in steps.
    """

    def __init__(self, warmdown_steps: int = 1200):
        self.warmdown_steps = warmdown_steps

    def __call__(self, progress: Progress) -> float:
        if self.warmdown_steps <= 0:
            return 1.0
        if progress.max_seconds:
            warmdown = self.warmdown_steps * progress.seconds / max(progress.step, 1)
            remaining = max(progress.max_seconds - progress.seconds, 0.0)
            return remaining / max(warmdown, 1e-9) if remaining <= warmdown else 1.0
        total = progress.total_steps
        if not total - self.warmdown_steps <= progress.step < total:
            return 1.0
        return (total - progress.step) / self.warmdown_steps


class WarmdownFraction:
    """1, then linear to `floor` over the last `warmdown_fraction` of the budget; linear rise over `warmup_fraction`."""

    def __init__(self, warmdown_fraction: float = 0.5, floor: float = 0.0, warmup_fraction: float = 0.0):
        self.warmdown_fraction, self.floor, self.warmup_fraction = warmdown_fraction, floor, warmup_fraction

    def __call__(self, progress: Progress) -> float:
        fraction = progress.fraction
        if fraction < self.warmup_fraction:
            # Half a step ahead, so that the very first step is not wasted at a rate of zero.
            return max(fraction / self.warmup_fraction, 0.5 / max(progress.total_steps, 1) / self.warmup_fraction)
        if self.warmdown_fraction <= 0 or fraction < 1.0 - self.warmdown_fraction:
            return 1.0
        return max((1.0 - fraction) / self.warmdown_fraction, self.floor)


class Cosine:
    """Cosine from 1 to `floor` over the whole budget."""

    def __init__(self, floor: float = 0.0):
        self.floor = floor

    def __call__(self, progress: Progress) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress.fraction))


class LinearRamp:
    """From `start` to `end` over the first `steps` steps, then `end` (momentum warm-up: f = min(step/steps, 1))."""

    def __init__(self, start: float, end: float, steps: int):
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, progress: Progress) -> float:
        f = min(progress.step / self.steps, 1.0) if self.steps else 1.0
        return (1.0 - f) * self.start + f * self.end


class Schedules:
    """What a run schedules. `lr`: multiplier of every learning rate; `momentum`: Muon's momentum, None = leave it.

    Called before each step: `apply(progress, optimizer)` sets the optimizer's rates.
    """

    def __init__(self, lr: Callable[[Progress], float], momentum: Callable[[Progress], float] | None = None):
        self.lr, self.momentum = lr, momentum

    def values(self, progress: Progress) -> dict[str, float]:
        """Scheduled values by name, for logs."""
        found = {"lr": self.lr(progress)}
        if self.momentum is not None:
            found["momentum"] = self.momentum(progress)
        return found

    def apply(self, progress: Progress, optimizer: Any) -> dict[str, float]:
        values = self.values(progress)
        optimizer.set_rates(values["lr"], values.get("momentum"))
        return values
