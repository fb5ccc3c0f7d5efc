"""The ledger: every target's loss is written once, and what was and was not scored can be counted.

Targets are numbered by their position in the token stream: 1 … N for N + 1 tokens (token 0 is only ever context).
Invariant: in the mode "forbid" a second record of a target is an error, so no protocol can improve a score that
already exists, and within a segment (a document, or the whole stream) targets are recorded in ascending order. The
mode "count" is for published protocols that re-score the tail: it keeps every scoring, as they do, and says how many
targets were scored more than once. Sums are float64 in target order, so any split of the targets over ranks gives the
same total. `require_scored` is what test-time training asks before it may look at a token.
Losses of a long stream lie in unlinked temporary files that are mapped, and are let go of once they are written, so the
memory does not grow with the stream.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from golf.errors import VerificationFailed
from golf.evaluation.bpb import Score

# A probability of exactly one may come out as a loss slightly below zero in float32; more than this is not rounding.
ROUNDING_NATS = 1e-3
SUM_CHUNK = 1 << 20  # targets summed at once: bounds the memory, whatever the split's length
MAPPED_TARGETS = 1 << 23  # streams of more targets are kept in files
MASS_TOLERANCE = 1e-5  # of the sum of a distribution given as logarithms in float32


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
        return coverage_text(self.split_targets, self.scored, self.scored_twice)


def coverage_text(split_targets: int, scored: int, scored_twice: int) -> str:
    """How much of a split was scored, in words."""
    part = f", PARTIAL ({scored / split_targets:.2%})" if scored < split_targets else ""
    return f"scored {scored:,} of {split_targets:,} targets, {scored_twice:,} more than once{part}"


class Ledger:
    """Losses of the targets 1 … num_targets of one stream.

    `segments`: first targets of the parts that are scored independently of each other, ascending, the first is 1.
    """

    def __init__(self, num_targets: int, rescoring: str = "forbid", segments: Sequence[int] = (1,)) -> None:
        if rescoring not in ("forbid", "count"):
            raise ValueError(f"rescoring={rescoring!r}: allowed are 'forbid' and 'count'")
        self.num_targets = num_targets
        self.rescoring = rescoring
        self.nats_N = ledger_array(num_targets, np.float64)
        self.times_N = ledger_array(num_targets, np.int32)
        self._since_release = 0
        self._segments_S = np.asarray(segments, dtype=np.int64)
        self._next_S = self._segments_S.copy()  # lowest target of each segment that may be recorded next
        self._scored_elsewhere_N: np.ndarray | None = None

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
        segment = int(np.searchsorted(self._segments_S, first_target, side="right")) - 1
        if self.rescoring == "forbid" and nll_S.size:
            if first_target < self._next_S[segment]:
                raise LedgerError(
                    f"target {first_target} comes after target {self._next_S[segment] - 1}: scores are written in order"
                )
            self._next_S[segment] = first_target + nll_S.size
        self.nats_N[begin:end] += nll_S
        times_S += 1
        self._since_release += nll_S.size
        if self._since_release >= SUM_CHUNK:
            self.release()

    def release(self) -> None:
        """Let go of the memory of what is in files; it is read again where it is wanted."""
        self._since_release = 0
        for values_N in (self.nats_N, self.times_N):
            mapped = getattr(values_N, "_mmap", None)
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    # -- what test-time training may see ------------------------------------------------------------------------------
    def require_scored(self, first_target: int, last_target: int) -> None:
        """Raises LedgerError unless each of these targets has its final score, here or on another rank."""
        begin, end = first_target - 1, last_target
        scored_S = self.times_N[begin:end] > 0
        if self._scored_elsewhere_N is not None:
            scored_S = scored_S | self._scored_elsewhere_N[begin:end]
        if begin < 0 or end > self.num_targets or not scored_S.all():
            unscored = first_target + int(np.argmin(scored_S)) if scored_S.size else last_target
            raise LedgerError(f"target {unscored} has no score yet: nothing may learn from it before it is final")

    def share_coverage(self, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Let every rank know which targets are scored anywhere."""
        if self._scored_elsewhere_N is None:
            self._scored_elsewhere_N = np.zeros(self.num_targets, dtype=bool)
        for begin in range(0, self.num_targets, SUM_CHUNK):
            mine = torch.from_numpy((self.times_N[begin : begin + SUM_CHUNK] > 0).astype(np.int32))
            self._scored_elsewhere_N[begin : begin + SUM_CHUNK] = sum_over_ranks(mine).cpu().numpy() > 0

    # -- over ranks ---------------------------------------------------------------------------------------------------
    def merge(self, other: Ledger) -> None:
        """Take over the records of another rank's ledger of the same stream."""
        self._add(other.nats_N, other.times_N)

    def reduce(self, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Sum this ledger over ranks; `sum_over_ranks` returns the sum of a CPU tensor over all of them."""
        for values_N in (self.nats_N, self.times_N):
            for begin in range(0, self.num_targets, SUM_CHUNK):
                part = torch.from_numpy(values_N[begin : begin + SUM_CHUNK].copy())
                values_N[begin : begin + SUM_CHUNK] = sum_over_ranks(part).cpu().numpy()
                self.release()
        self._require_once()

    def _add(self, nats_N: np.ndarray, times_N: np.ndarray) -> None:
        if nats_N.shape != self.nats_N.shape:
            raise LedgerError(f"a ledger of {nats_N.size} targets cannot be merged into one of {self.num_targets}")
        self.nats_N += nats_N
        self.times_N += times_N
        self._require_once()

    def _require_once(self) -> None:
        for begin in range(0, self.num_targets if self.rescoring == "forbid" else 0, SUM_CHUNK):
            times_S = self.times_N[begin : begin + SUM_CHUNK]
            if times_S.max() > 1:
                raise LedgerError(f"target {begin + int(np.argmax(times_S)) + 1} was scored by more than one rank")
            self.release()

    def score(self, bytes_per_target: np.ndarray) -> Score:
        """Sums over everything recorded; bytes_per_target[i] belongs to target i + 1."""
        if bytes_per_target.shape != self.nats_N.shape:
            raise LedgerError(f"{bytes_per_target.size} byte counts for {self.num_targets} targets")
        return self.score_by(lambda begin, end: bytes_per_target[begin:end])

    def score_by(self, bytes_between: Callable[[int, int], np.ndarray]) -> Score:
        """The same where bytes_between(begin, end) counts the bytes of the targets begin + 1 … end."""
        nats, targets, byte_sum = [], 0, 0
        for begin in range(0, self.num_targets, SUM_CHUNK):
            end = min(begin + SUM_CHUNK, self.num_targets)
            times_S = self.times_N[begin:end].astype(np.int64)
            nats.append(float(self.nats_N[begin:end].sum()))
            targets += int(times_S.sum())
            byte_sum += int((bytes_between(begin, end).astype(np.int64) * times_S).sum())
            self.release()
        return Score(math.fsum(nats), targets, byte_sum)

    def coverage(self, split_targets: int | None = None) -> Coverage:
        """What was scored, of this stream or of the split of which the stream is the beginning."""
        scored, twice = 0, 0
        for begin in range(0, self.num_targets, SUM_CHUNK):
            times_S = self.times_N[begin : begin + SUM_CHUNK]
            scored, twice = scored + int((times_S > 0).sum()), twice + int((times_S > 1).sum())
            self.release()
        return Coverage(self.num_targets if split_targets is None else split_targets, scored, twice)


def ledger_array(size: int, dtype: Any) -> np.ndarray:
    """Zeros [size]: in memory, or where there are many in an unlinked temporary file."""
    if size <= MAPPED_TARGETS:
        return np.zeros(size, dtype=dtype)
    file = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the mapping)
    file.truncate(size * np.dtype(dtype).itemsize)
    return np.memmap(file, dtype=dtype, mode="r+", shape=(size,))


def losses_of(first_target: int, log_p_SV: torch.Tensor, targets_S: np.ndarray) -> torch.Tensor:
    """Losses [S] of consecutive targets under distributions given as logarithms [S, V], float64 on the CPU.

    Raises:
        LedgerError: the probabilities of a target do not add up to one.
    """
    mass_S = torch.logsumexp(log_p_SV.double(), -1).exp().cpu()
    wrong_S = ~((mass_S - 1.0).abs() <= MASS_TOLERANCE)  # also nan
    if bool(wrong_S.any()):
        bad = int(wrong_S.long().argmax())
        raise LedgerError(
            f"the probabilities at target {first_target + bad} add up to {float(mass_S[bad]):.9g}, not to 1 within "
            f"{MASS_TOLERANCE:g}: a score needs a normalised distribution"
        )
    targets_S1 = torch.from_numpy(targets_S).to(log_p_SV.device)[:, None]
    return -log_p_SV.double().gather(1, targets_S1)[:, 0].cpu()
