"""Nats and bytes to bits per byte, in float64: the only place where a BPB is computed.

    bpb = sum(nll) / ln 2 / sum(bytes)        nats per token = sum(nll) / number of scored targets

`nll` is the negative log-likelihood of one target token in nats; `bytes` are those the token stands for
(golf.data.bytes). A target without bytes (BOS) adds its nats and nothing else: its cost is not forgiven.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def bits_per_byte(nats_sum: float, byte_sum: int) -> float:
    """Total nats over total bytes, in bits; without a byte there is no such number (nan)."""
    return nats_sum / math.log(2.0) / byte_sum if byte_sum > 0 else math.nan


@dataclass(frozen=True)
class Score:
    """Sums over scored targets. Scores of disjoint parts add up: `rank_0 + rank_1` is the score of the whole."""

    nats_sum: float
    targets: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """Mean loss in nats, the `val_loss` of the field's logs."""
        return self.nats_sum / self.targets if self.targets else math.nan

    @property
    def bpb(self) -> float:
        return bits_per_byte(self.nats_sum, self.bytes)

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.targets if self.targets else math.nan

    def __add__(self, other: Score) -> Score:
        return Score(self.nats_sum + other.nats_sum, self.targets + other.targets, self.bytes + other.bytes)
