"""The ledger: every target's loss is written once, and what was and was not scored can be counted.

Targets are numbered by their position in the token stream: 1 … N for N + 1 tokens (token 0 is only ever context).
Invariant: in the mode "forbid" a second record of a target is an error, so no protocol can improve a score that
already exists. The mode "count" is for published protocols that re-score the tail: it keeps every scoring, as they do,
and says how many targets were scored more than once. Sums are float64 in target order, so any split of the
targets over ranks gives the same total.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from golf.errors import VerificationFailed
from golf.evaluation.bpb import Score

# A probability of exactly one may come out as a loss slightly below zero in float32; more than this is not rounding.
ROUNDING_NATS = 1e-3


class LedgerError(VerificationFailed):
    """A scorer broke the ledger's rules: a score written twice, out of range, or not a log-probability."""


@dataclass(frozen=True)
class Coverage:
    """How much of a split was scored. `split_targets` counts the whole split, also where only a part was asked for."""

    split_targets: int
    scored: int
    scored_twice: int

    @property
    def never_scored(self) -> int:
        return self.split_targets - self.scored

    @property
    def complete(self) -> bool:
        """Every target of the split exactly once."""
        return self.scored == self.split_targets and self.scored_twice == 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "never_scored": self.never_scored, "complete": self.complete}

    def __str__(self) -> str:
        part = "" if self.never_scored == 0 else f", PARTIAL ({self.scored / max(self.split_targets, 1):.2%})"
        return f"scored {self.scored:,} of {self.split_targets:,} targets, {self.scored_twice:,} more than once{part}"


class Ledger:
    """Losses of the targets 1 … num_targets of one stream."""

    def __init__(self, num_targets: int, rescoring: str = "forbid") -> None:
        if rescoring not in ("forbid", "count"):
            raise ValueError(f"rescoring={rescoring!r}: allowed are 'forbid' and 'count'")
        self.num_targets = num_targets
        self.rescoring = rescoring
        self.nats_N = np.zeros(num_targets, dtype=np.float64)
        self.times_N = np.zeros(num_targets, dtype=np.int32)

    def record(self, first_target: int, nll: Any) -> None:
        """Write the losses (nats) of the targets first_target, first_target + 1, …; raises LedgerError."""
        nll_S = np.asarray(nll.detach().cpu() if isinstance(nll, torch.Tensor) else nll, dtype=np.float64)
        begin, end = first_target - 1, first_target - 1 + nll_S.size
        if nll_S.ndim != 1 or begin < 0 or end > self.num_targets:
            raise LedgerError(
                f"targets {first_target}…{end} are outside of 1…{self.num_targets}, or not a flat list of losses"
            )
        if not (nll_S >= -ROUNDING_NATS).all():  # also false for nan
            bad = int(np.flatnonzero(~(nll_S >= -ROUNDING_NATS))[0])
            raise LedgerError(
                f"target {first_target + bad} has the loss {nll_S[bad]}: a loss is a number >= 0 (nats, -log p)"
            )
        times_S = self.times_N[begin:end]
        if self.rescoring == "forbid" and times_S.any():
            again = first_target + int(np.flatnonzero(times_S)[0])
            raise LedgerError(f"target {again} is already scored: a score is final once it is written")
        self.nats_N[begin:end] += nll_S
        times_S += 1

    def merge(self, other: Ledger) -> None:
        """Take over the records of another rank's ledger of the same stream."""
        self._add(other.nats_N, other.times_N)

    def reduce(self, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Sum this ledger over ranks; `sum_over_ranks` returns the sum of a CPU tensor over all of them."""
        nats_N = sum_over_ranks(torch.from_numpy(self.nats_N.copy())).cpu().numpy()
        times_N = sum_over_ranks(torch.from_numpy(self.times_N.copy())).cpu().numpy()
        self.nats_N[:], self.times_N[:] = 0.0, 0
        self._add(nats_N, times_N)

    def _add(self, nats_N: np.ndarray, times_N: np.ndarray) -> None:
        if nats_N.shape != self.nats_N.shape:
            raise LedgerError(f"a ledger of {nats_N.size} targets cannot be merged into one of {self.num_targets}")
        self.nats_N += nats_N
        self.times_N += times_N
        if self.rescoring == "forbid" and self.times_N.max(initial=0) > 1:
            raise LedgerError(f"target {int(np.argmax(self.times_N)) + 1} was scored by more than one rank")

    def score(self, bytes_per_target: np.ndarray) -> Score:
        """Sums over everything recorded; bytes_per_target[i] belongs to target i + 1."""
        if bytes_per_target.shape != self.nats_N.shape:
            raise LedgerError(f"{bytes_per_target.size} byte counts for {self.num_targets} targets")
        byte_sum = int((bytes_per_target.astype(np.int64) * self.times_N).sum())
        return Score(float(self.nats_N.sum()), int(self.times_N.sum(dtype=np.int64)), byte_sum)

    def coverage(self, split_targets: int | None = None) -> Coverage:
        """What was scored, of this stream or of the split of which the stream is the beginning."""
        scored, twice = int((self.times_N > 0).sum()), int((self.times_N > 1).sum())
        return Coverage(self.num_targets if split_targets is None else split_targets, scored, twice)
