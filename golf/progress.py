"""How far a training run is: the one value that schedules, averaging, QAT and the stop rule are functions of.

A run may be limited by optimizer steps, by seconds of training clock and by tokens, in any combination; 0 = unlimited.
Invariant: every rank sees the same `Progress` at the same step, so every rank computes the same learning rate.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The training clock just before optimizer step `step` (0-based).

    `seconds` counts training only (validation and checkpoints pause the clock); `tokens` are those consumed so far.
    """

    step: int
    seconds: float = 0.0
    tokens: int = 0
    max_steps: int = 0
    max_seconds: float = 0.0
    max_tokens: int = 0

    @property
    def fraction(self) -> float:
        """Used share of the budget in [0, 1]: the largest of the shares of all limits that are set."""
        shares = [0.0]
        if self.max_steps:
            shares.append(self.step / self.max_steps)
        if self.max_seconds:
            shares.append(self.seconds / self.max_seconds)
        if self.max_tokens:
            shares.append(self.tokens / self.max_tokens)
        return min(1.0, max(shares))

    @property
    def seconds_per_step(self) -> float:
        """Mean seconds of the steps done so far (elapsed / max(step, 1), as the public baseline counts it)."""
        return self.seconds / max(self.step, 1)

    @property
    def total_steps(self) -> int:
        """Best estimate of the optimizer steps of the whole run; 0 while nothing limits it or nothing is known yet."""
        counted = self.counted_steps
        if not self.max_seconds or not self.step or self.seconds <= 0:
            return counted
        timed = int(self.max_seconds / (self.seconds / self.step))
        return min(timed, counted or timed)

    @property
    def counted_steps(self) -> int:
        """The same of a run without a limit of seconds."""
        if not self.max_tokens or not self.step:
            return self.max_steps
        read = -(-self.max_tokens * self.step // max(self.tokens, 1))
        return min(read, self.max_steps or read)
