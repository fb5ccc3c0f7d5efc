"""The one training clock: seconds, steps and tokens against the budget, the same on every rank.

Rank 0 owns `time.monotonic()`. It is read (device synchronised, then broadcast) only at sync points, whose distance
shrinks towards the end of the budget; between two sync points every rank extrapolates from the same two numbers.
Hence all ranks have the same progress, learning rate and stop step, bit for bit, and an idle step has no collective.
The stop is predictive: training ends before the limit, never one step after it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from golf.progress import Progress

SYNC_SECONDS = 5.0


class BudgetClock:
    """Counts training time; `pause()` around validation and checkpoints; separate instances for separate clocks.

    Args:
        max_steps, max_seconds, max_tokens: limits; 0 = unlimited. `tokens_per_step` converts steps to tokens.
        reserve_seconds: kept free at the end of `max_seconds` (for work that has to happen inside the clock).
        reserve_steps: time of so many steps that is kept free, too (for what an average takes to settle).
        synchronise: called before the clock is read (a device synchronise); None on CPU.
        share: maps rank 0's two floats to all ranks; None for a single rank.
        per_rank: each rank's progress follows its own reading, as in the published runs, so that learning rates and
            switches differ between ranks; the stop stays common. A known fault of theirs, off by default.
    """

    interrupted = False  # whether all ranks have agreed to stop before the budget ends

    def __init__(
        self,
        tokens_per_step: int,
        max_steps: int = 0,
        max_seconds: float = 0.0,
        max_tokens: int = 0,
        reserve_seconds: float = 0.0,
        reserve_steps: float = 0.0,
        synchronise: Callable[[], None] | None = None,
        share: Callable[[tuple[float, float]], Sequence[float]] | None = None,
        per_rank: bool = False,
    ):
        self.tokens_per_step = tokens_per_step
        self.max_steps, self.max_seconds, self.max_tokens = max_steps, max_seconds, max_tokens
        self.reserve_seconds, self.reserve_steps = reserve_seconds, reserve_steps
        self.synchronise, self.share = synchronise, share
        self.per_rank, self._own_lead = per_rank, 0.0  # seconds by which this rank's own reading is ahead
        self._used = 0.0  # seconds of finished running intervals, this rank's own reading
        self._started: float | None = None
        self._sync_step, self._sync_seconds, self._step_seconds, self._next_sync = 0, 0.0, 0.0, 0

    # -- running and pausing ------------------------------------------------------------------------------------------
    def now(self) -> float:
        """The time source, replaceable in tests."""
        return time.monotonic()

    def start(self) -> None:
        """Start or go on after a pause."""
        self._used, self._started = self.read(), self.now()

    def pause(self) -> None:
        """Stop counting (after finishing the device's queued work, which belongs to training)."""
        if self.synchronise is not None:
            self.synchronise()
        self._used, self._started = self.read(), None

    @property
    def running(self) -> bool:
        """Whether time counts."""
        return self._started is not None

    def read(self) -> float:
        """Seconds of training on this rank's own clock."""
        return self._used + (self.now() - self._started if self._started is not None else 0.0)

    # -- what everybody else asks -------------------------------------------------------------------------------------
    def progress(self, step: int) -> Progress:
        """Progress before optimizer step `step` (0-based); the same on every rank. Call once per step, in order."""
        if step >= self._next_sync:
            self._sync(step)
        found = self.local_progress(step)
        return replace(found, seconds=max(0.0, found.seconds + self._own_lead)) if self._own_lead else found

    def local_progress(self, step: int) -> Progress:
        """Progress by this rank's last reading alone (before ranks can talk to each other)."""
        tokens = step * self.tokens_per_step
        return Progress(step, self._seconds_at(step), tokens, self.max_steps, self.max_seconds, self.max_tokens)

    def should_stop(self, step: int) -> bool:
        """True if step `step` must not be started: a limit is reached, or the step would end after the time limit."""
        self.progress(step)
        if self.max_steps and step >= self.max_steps:
            return True
        if self.max_tokens and step * self.tokens_per_step >= self.max_tokens:
            return True
        late = self.max_seconds > 0 and self._seconds_at(step) + self._step_seconds > self._usable_seconds()
        return self.interrupted or late

    def predicted_steps(self, step: int) -> int:
        """Steps the whole run will have if the pace holds; 0 if nothing limits the run."""
        limits = []
        if self.max_steps:
            limits.append(self.max_steps)
        if self.max_tokens:
            limits.append(-(-self.max_tokens // self.tokens_per_step))
        if self.max_seconds and self._step_seconds > 0:
            left = self._usable_seconds() - self._seconds_at(step)
            limits.append(step + max(0, int(left / self._step_seconds)))
        return min(limits, default=0)

    @property
    def step_seconds(self) -> float:
        """Seconds per step in the last interval between sync points."""
        return self._step_seconds

    # -- resume -------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.read(), "step_seconds": self._step_seconds}

    def load_state_dict(self, state: dict[str, float], step: int) -> None:
        """Go on from the seconds already used; `step` is the next optimizer step."""
        self._used, self._started = float(state["seconds"]), None
        self._step_seconds = float(state["step_seconds"])
        self._sync_step, self._sync_seconds, self._next_sync = step, self._used, step

    # -- inside -------------------------------------------------------------------------------------------------------
    def _usable_seconds(self) -> float:
        if not (self.reserve_seconds or self.reserve_steps):
            return self.max_seconds
        return self.max_seconds - self.reserve_seconds - self.reserve_steps * self._step_seconds

    def _seconds_at(self, step: int) -> float:
        return self._sync_seconds + (step - self._sync_step) * self._step_seconds

    def _sync(self, step: int) -> None:
        if self.synchronise is not None and self.max_seconds:
            self.synchronise()
        seconds, pace = self.read(), self._step_seconds
        if step > self._sync_step:
            pace = max(0.0, seconds - self._sync_seconds) / (step - self._sync_step)  # the last sync was rank 0's
        own = seconds
        seconds, pace = self._agreed(seconds, pace)
        self._own_lead = own - seconds if self.per_rank else 0.0
        self._sync_step, self._sync_seconds, self._step_seconds = step, seconds, pace
        self._next_sync = step + self._interval(step)

    def _agreed(self, seconds: float, pace: float) -> Sequence[float]:
        """What all ranks go by."""
        return self.share((seconds, pace)) if self.share else (seconds, pace)

    def _interval(self, step: int) -> int:
        """Steps to the next sync point: short at the start and at the end of a time budget, at most 32 between.

        And at most SYNC_SECONDS, because that is how long a request to stop may have to wait.
        """
        pace, seconds, most = self._step_seconds, SYNC_SECONDS, 8
        if step < 4 or not pace:
            return 1
        if self.max_seconds:
            seconds, most = min(seconds, (self._usable_seconds() - self._seconds_at(step)) / 8), 32
        if self.max_seconds and (self.max_steps or self.max_tokens):
            most = min(most, (self.predicted_steps(step) - step) // 8)
        return max(1, min(most, int(seconds / pace)))


class InterruptibleClock(BudgetClock):
    """A clock whose run may be asked to end early.

    A negative pace is a rank's request to stop, and `share` gives all ranks one if any rank's is.
    """

    _interrupt_requested = False

    def interrupt(self) -> None:
        """Ask for a stop: a rank's request reaches every rank at the next sync point, so that all stop at one step."""
        self._interrupt_requested = True

    def progress(self, step: int) -> Progress:
        if self._interrupt_requested and self.share is None:
            self._next_sync = step
        return super().progress(step)

    def _agreed(self, seconds: float, pace: float) -> Sequence[float]:
        if self.share is None:
            self.interrupted = self._interrupt_requested
            return seconds, pace
        seconds, pace = self.share((seconds, -1.0 if self._interrupt_requested else pace))
        self.interrupted = pace < 0
        return seconds, max(pace, 0.0)


@dataclass(frozen=True)
class Budget:
    """Limits of a run (config group `budget`); 0 = unlimited.

    max_seconds, max_steps, max_tokens: training; reserve_seconds of max_seconds stay free after the last step;
    evaluation_seconds: scoring; limit_bytes: code + compressed model; per_rank_clock: see `BudgetClock.per_rank`.
    target_loss: nats per validation token at which training ends, looked at every target_check_steps; unique_tokens:
    the first so many of the training split, read again and again.
    """

    max_seconds: float = 600.0
    max_steps: int = 0
    max_tokens: int = 0
    reserve_seconds: float = 0.0
    evaluation_seconds: float = 600.0
    limit_bytes: int = 16_000_000
    per_rank_clock: bool = False
    target_loss: float = 0.0
    target_check_steps: int = 125
    unique_tokens: int = 0
