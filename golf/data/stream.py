"""The training stream: which tokens a rank sees at a micro-step.

Rule (the challenge's baseline): a step of B tokens is cut into S spans; on a world of W ranks (W divides S) a step has
S/W micro-steps, and each takes W consecutive spans of B/S + 1 tokens from one endless stream; rank r gets the r-th.
inputs = span[:-1], targets = span[1:], cut into rows of T without regard to documents. So the tokens of a step do
not depend on W. Invariant: `batch` is a pure function of its arguments: restartable and safe to prefetch.
Legend: B batch (rows), T time.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from golf.data.shards import Shards
from golf.errors import UserError


class Batch(NamedTuple):
    """One micro-batch on the CPU: int64 inputs and targets, both [rows, seq_len], views of one buffer.

    cu_seqlens: int32 [S] of a packed stream: where its segments begin, padded with the number of tokens; else None.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    cu_seqlens: Tensor | None = None


class SequentialStream:
    """Random access to the micro-batches of an endless pass over `shards`."""

    def __init__(self, shards: Shards, tokens_per_step: int, seq_len: int, spans_per_step: int = 8) -> None:
        for name, value in (
            ("tokens_per_step", tokens_per_step),
            ("seq_len", seq_len),
            ("spans_per_step", spans_per_step),
        ):
            if value < 1:
                raise UserError(f"data.{name}={value} must be at least 1")
        unit = seq_len * spans_per_step
        if tokens_per_step % unit:
            below = tokens_per_step // unit * unit
            nearest = f"{below} or {below + unit}" if below else f"{unit}"
            raise UserError(
                f"data.tokens_per_step={tokens_per_step} is not a multiple of seq_len x spans_per_step = "
                f"{seq_len} x {spans_per_step}; type data.tokens_per_step={nearest}"
            )
        self.shards = shards
        self.tokens_per_step = tokens_per_step
        self.seq_len = seq_len
        self.spans_per_step = spans_per_step
        self.span_tokens = tokens_per_step // spans_per_step

    def micro_steps(self, world: int) -> int:
        """Micro-steps (gradient accumulation) per step on `world` ranks; UserError unless world divides the spans."""
        if world < 1 or self.spans_per_step % world:
            allowed = [n for n in range(1, self.spans_per_step + 1) if self.spans_per_step % n == 0]
            raise UserError(
                f"{world} devices cannot share {self.spans_per_step} spans per step; "
                f"type hardware.devices= one of {allowed}, or a multiple of {world} for data.spans_per_step"
            )
        return self.spans_per_step // world

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Batch:
        """Micro-batch number `micro_step` (counted over the whole run) of `rank`."""
        if not 0 <= rank < world or self.spans_per_step % world:
            self.micro_steps(world)
            raise UserError(f"rank {rank} is outside a world of {world} ranks")
        length = self.span_tokens + 1
        span = self.shards.take((micro_step * world + rank) * length, length, wrap=True)
        tokens = torch.from_numpy(span.astype(np.int64))
        return Batch(tokens[:-1].view(-1, self.seq_len), tokens[1:].view(-1, self.seq_len))
