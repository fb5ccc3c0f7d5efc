"""Schedules: pure functions of progress. Multipliers of the learning rate, and ramps and stages of other quantities.

Because they read `Progress` (steps, seconds and tokens against their limits) the same schedule serves a time budget, a
step budget and a token budget, and its value is the same on every rank. `activation_fractions` tells from which share
of the budget on each part acts, so that one that never would (a share above 1) is refused before training.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from golf.errors import UserError
from golf.optim.resize import resize_batch
from golf.progress import Progress


def warm_up_factor(step: int, warmup_steps: int) -> float:
    """min(step / warmup_steps, 1): 0 in the first step, as the record of 18 March has it; 1 without a warm-up."""
    return min(step / warmup_steps, 1.0) if warmup_steps > 0 else 1.0


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

    Args:
        warmup_steps: linear rise from 0 over the first steps.
        first_step_seconds: seconds by which compilation inside the timed run prolonged the first step. Under a time
            limit e grows by them, which makes the accidental warm-up of the record of 19 March: after one step at full
            rate the multiplier is near 0 and takes hundreds of steps to come back.
    """

    def __init__(self, warmdown_steps: int = 1200, warmup_steps: int = 0, first_step_seconds: float = 0.0):
        self.warmdown_steps, self.warmup_steps, self.first_step_seconds = (
            warmdown_steps,
            warmup_steps,
            first_step_seconds,
        )

    def __call__(self, progress: Progress) -> float:
        factor = self._warmdown(progress)
        return factor * warm_up_factor(progress.step, self.warmup_steps) if self.warmup_steps else factor

    def _warmdown(self, progress: Progress) -> float:
        if self.warmdown_steps <= 0:
            return 1.0
        if progress.max_seconds:
            seconds = progress.seconds
            if self.first_step_seconds and progress.step:
                seconds += self.first_step_seconds
            warmdown = self.warmdown_steps * seconds / max(progress.step, 1)
            remaining = max(progress.max_seconds - seconds, 0.0)
            return remaining / max(warmdown, 1e-9) if remaining <= warmdown else 1.0
        total = progress.counted_steps
        if total and total - self.warmdown_steps <= progress.step < total:
            return (total - progress.step) / self.warmdown_steps
        return 1.0


class WarmdownFraction:
    """1, then linear to `floor` over the last `warmdown_fraction` of the budget.

    The multiplier is max((1 - fraction) / warmdown_fraction, floor). Linear rises before it: over `warmup_fraction` of
    the budget, or over `warmup_steps` steps.
    """

    def __init__(
        self,
        warmdown_fraction: float = 0.5,
        floor: float = 0.0,
        warmup_fraction: float = 0.0,
        warmup_steps: int = 0,
    ):
        self.warmdown_fraction, self.floor = warmdown_fraction, floor
        self.warmup_fraction, self.warmup_steps = warmup_fraction, warmup_steps

    def __call__(self, progress: Progress) -> float:
        fraction = progress.fraction
        factor = warm_up_factor(progress.step, self.warmup_steps)
        if self.warmup_fraction and fraction < self.warmup_fraction:
            # Half a step ahead, so that the very first step is not wasted at a rate of zero.
            first = 0.5 / max(progress.total_steps, 1) / self.warmup_fraction
            return factor * max(fraction / self.warmup_fraction, first)
        if self.warmdown_fraction <= 0 or fraction < 1.0 - self.warmdown_fraction:
            return factor
        return factor * max((1.0 - fraction) / self.warmdown_fraction, self.floor)

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        starts = {"warmup_fraction": self.warmup_fraction}
        return {**starts, "warmdown_fraction": 1.0 - self.warmdown_fraction} if self.warmdown_fraction else starts


class Cosine:
    """Cosine from 1 to `floor` over the whole budget, after a linear rise over `warmup_steps` steps."""

    def __init__(self, floor: float = 0.0, warmup_steps: int = 0):
        self.floor, self.warmup_steps = floor, warmup_steps

    def __call__(self, progress: Progress) -> float:
        cosine = self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress.fraction))
        return cosine * warm_up_factor(progress.step, self.warmup_steps)


class LinearRamp:
    """From `start` to `end` over the first `steps` steps, then `end` (momentum warm-up: f = min(step/steps, 1))."""

    def __init__(self, start: float, end: float, steps: int):
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, progress: Progress) -> float:
        f = min(progress.step / self.steps, 1.0) if self.steps else 1.0
        return (1.0 - f) * self.start + f * self.end


class Taper:
    """1 until `start_fraction` of the budget, then linearly to `end` (weight decay of 18 April: .70 and .50)."""

    def __init__(self, start_fraction: float = 0.7, end: float = 0.5):
        self.start_fraction, self.end = start_fraction, end

    def __call__(self, progress: Progress) -> float:
        if progress.fraction <= self.start_fraction:
            return 1.0
        return 1.0 + (self.end - 1.0) * (progress.fraction - self.start_fraction) / (1.0 - self.start_fraction)

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        return {"start_fraction": self.start_fraction}


class Stages:
    """A value that changes at shares of the budget: `stages` is a list of [fraction, value], the first at 0."""

    def __init__(self, stages: Sequence[Sequence[float]]):
        pairs = [tuple(stage) for stage in stages]
        fractions = [pair[0] for pair in pairs if len(pair) == 2]
        if not pairs or len(fractions) < len(pairs) or fractions[0] != 0 or fractions != sorted(set(fractions)):
            raise UserError(
                f"schedule stages {[list(pair) for pair in pairs]}: type rising [fraction, value] from fraction 0, "
                "for example [[0,512],[0.5,1024]]"
            )
        self.stages = pairs

    def __call__(self, progress: Progress) -> Any:
        return [value for fraction, value in self.stages if fraction <= progress.fraction][-1]

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        return {f"stages[{index}]": fraction for index, (fraction, _) in enumerate(self.stages)}


class Schedules:
    """What a run schedules, each a function of progress; None leaves a quantity as it is.

    Args:
        lr: multiplier of every learning rate. momentum: Muon's momentum.
        weight_decay: multiplier of the matrices' weight decay.
        seq_len: tokens per row (`Stages`), a divisor of the data's. batch_share: share of the batch's rows (`Stages`).
    """

    def __init__(
        self,
        lr: Callable[[Progress], float],
        momentum: Callable[[Progress], float] | None = None,
        weight_decay: Callable[[Progress], float] | None = None,
        seq_len: Stages | None = None,
        batch_share: Stages | None = None,
    ):
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.seq_len, self.batch_share = seq_len, batch_share

    def values(self, progress: Progress) -> dict[str, float]:
        """Scheduled values by name, called before each step."""
        found = {"lr": self.lr(progress)}
        if self.momentum is not None:
            found["momentum"] = self.momentum(progress)
        if self.weight_decay is not None:
            found["weight_decay"] = self.weight_decay(progress)
        return found | self.batch_shape(progress)

    def batch_shape(self, progress: Progress) -> dict[str, Any]:
        """Those of `values` that `resized` goes by."""
        found = {}
        if self.seq_len is not None:
            found["seq_len"] = self.seq_len(progress)
        if self.batch_share is not None:
            found["batch_share"] = self.batch_share(progress)
        return found

    def apply(self, progress: Progress, optimizer: Any) -> dict[str, Any]:
        """Set the optimizer's rates for the step that comes next; returns its `batch_shape`."""
        optimizer.set_lr(self.lr(progress))
        if self.momentum is not None:
            optimizer.set_momentum(self.momentum(progress))
        if self.weight_decay is not None:
            optimizer.set_weight_decay(self.weight_decay(progress))
        return self.batch_shape(progress)

    def resized(self, batch: Any, values: dict[str, Any]) -> Any:
        """A batch in the shape that `values` asks for: shorter rows, fewer of them, or as it is."""
        if not self.resizes() or ("seq_len" not in values and "batch_share" not in values):
            return batch
        return resize_batch(batch, values.get("seq_len"), values.get("batch_share", 1.0))

    def resizes(self) -> bool:
        """Whether there are batches of several shapes."""
        return self.seq_len is not None or self.batch_share is not None

    def shapes(self) -> list[tuple[int | None, float]]:
        """All (seq_len, batch_share) that a run meets, in order, None = the data's own: what a warm-up compiles."""
        staged = [schedule for schedule in (self.seq_len, self.batch_share) if schedule is not None]
        edges = sorted({fraction for schedule in staged for fraction, _ in schedule.stages}) or [0.0]
        found = []
        for edge in edges:
            at = Progress(step=0, seconds=edge, max_seconds=1.0)
            seq_len = int(self.seq_len(at)) if self.seq_len is not None else None
            found.append((seq_len, float(self.batch_share(at)) if self.batch_share is not None else 1.0))
        return list(dict.fromkeys(found))

    def activation_fractions(self) -> dict[str, float]:
        """Key below `schedule` -> share of the budget from which on it acts; above 1 it never would."""
        parts: dict[str, Any] = {"lr": self.lr, **self._others()}
        return {
            f"{name}.{key}": fraction
            for name, part in parts.items()
            if hasattr(part, "activation_fractions")
            for key, fraction in part.activation_fractions().items()
        }

    def _others(self) -> dict[str, Any]:
        named = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        named |= {"seq_len": self.seq_len, "batch_share": self.batch_share}
        return {name: schedule for name, schedule in named.items() if schedule is not None}
