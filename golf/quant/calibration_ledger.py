"""The phase ledger of a calibration: what it reads is written down, and the training clock runs while it does.

A calibration source gets its shards from here and nowhere else. Whatever it calls itself, reading training tokens puts
its seconds on the training clock (tokens read after the clock had run out are counted), and a file that is not of the
training split raises. Invariant: a source that read no token is off the clock, any other is on it.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from golf.data.shards import TRAIN_PATTERN, VALIDATION_PATTERN, Shards
from golf.errors import VerificationFailed


def require_training_shards(shards: Shards) -> None:
    """Refuse shards that are not the training split's, by name or by what a link leads to.

    Raises:
        VerificationFailed: naming the file.
    """
    for path in map(Path, shards.paths):
        named = path.match(TRAIN_PATTERN)
        if not named or any(path.samefile(other) for other in path.parent.glob(VALIDATION_PATTERN)):
            what = "is a validation shard" if named else f"is not a training shard ({TRAIN_PATTERN})"
            raise VerificationFailed(f"{path} {what}: calibration never sees validation data")


class CalibrationLedger:
    """Counts what a calibration reads, from its making on.

    Args:
        train_seconds: what the training clock says. limit_seconds: of the budget; 0 = no limit.
        now: the time source, replaceable in tests.
    """

    def __init__(
        self, train_seconds: float, limit_seconds: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.train_seconds, self.limit_seconds, self.now = train_seconds, limit_seconds, now
        self.tokens_read = self.tokens_read_late = 0
        self._begun = now()

    def shards(
        self,
        paths: Iterable[str | Path],
        vocab_size: int | None = None,
        bos_id: int | None = None,
        first_tokens: int = 0,
    ) -> Shards:
        """The training shards, as a calibration may have them.

        Raises:
            VerificationFailed: a file of another split.
        """
        found = LedgerShards(paths, vocab_size, bos_id, first_tokens)
        require_training_shards(found)
        found.ledger = self
        return found

    def seconds(self) -> float:
        """Since the calibration began."""
        return self.now() - self._begun

    def read(self, tokens: int) -> None:
        """Tokens of the training split were read."""
        self.tokens_read += tokens
        if self.limit_seconds and self.train_seconds + self.seconds() > self.limit_seconds:
            self.tokens_read_late += tokens

    def share(self) -> None:
        """Add up what all ranks have read; each calls this."""
        counts = torch.tensor([self.tokens_read, self.tokens_read_late])
        dist.all_reduce(counts)
        self.tokens_read, self.tokens_read_late = counts.tolist()

    def as_dict(self) -> dict[str, Any]:
        seconds = self.seconds()
        on_clock = self.tokens_read > 0
        total = self.train_seconds + seconds * on_clock
        return {
            "calibration_seconds": round(seconds, 3),
            "on_training_clock": on_clock,
            "training_tokens_read": self.tokens_read,
            "tokens_read_after_the_clock": self.tokens_read_late,
            "over_training_clock": bool(on_clock and self.limit_seconds and total > self.limit_seconds),
        }

    def line(self, matrices: int) -> str:
        """How long it took, and whether training and calibration together stayed within the budget's seconds."""
        found = self.as_dict()
        seconds = found["calibration_seconds"]
        line = f"calibrated {matrices} matrices in {seconds:.1f} s"
        if found["on_training_clock"] and self.limit_seconds:
            total = self.train_seconds + seconds
            line += f"; with {self.train_seconds:.1f} s of training {total:.1f} of {self.limit_seconds:g} s"
        if found["over_training_clock"]:
            line += (
                f": OVER the training clock, {self.tokens_read_late:,} tokens read after it; "
                f"type budget.reserve_seconds={seconds + 0.5:.0f} in training"
            )
        return line


class LedgerShards(Shards):
    """Shards that tell a ledger about every read."""

    ledger: CalibrationLedger

    def take(self, start: int, count: int, wrap: bool = False) -> np.ndarray:
        tokens = super().take(start, count, wrap)
        self.ledger.read(len(tokens))
        return tokens

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        tokens = super().read(index, start, count)
        self.ledger.read(len(tokens))
        return tokens
