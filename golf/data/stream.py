"""The training stream: which tokens a rank sees at a micro-step.

What every order has in common: a step of B tokens is cut into S spans of B/S; on a world of W ranks (W divides S) a
step has S/W micro-steps, and at each of them rank r takes the r-th of the next W spans. Which tokens a span holds is
the order's rule. Invariant: `batch` is a pure function of its arguments: restartable at any step, safe to prefetch by
any number of workers, and independent of when anything is validated.
Legend: B batch (rows), T time.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from golf.data.shards import Shards
from golf.errors import UserError


class Batch(NamedTuple):
    """One micro-batch on the CPU: int64 inputs and targets, both [rows, seq_len] and contiguous.

    cu_seqlens: int32 [S] of a packed stream: where its segments begin, padded with the number of tokens; else None.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    cu_seqlens: Tensor | None = None


class TokenStream:
    """Sizes of a step and how its spans are dealt to ranks. An order adds `batch`.

    max_seqlen: the longest segment of a packed stream, None where rows are whole sequences.
    """

    max_seqlen: int | None = None

    def __init__(self, shards: Shards, tokens_per_step: int, seq_len: int, spans_per_step: int = 8) -> None:
        for name, value in (
            ("tokens_per_step", tokens_per_step),
            ("seq_len", seq_len),
            ("spans_per_step", spans_per_step),
        ):
            if value < 1:
                raise UserError(f"data.{name}={value} must be at least 1")
        self.shards = shards
        self.tokens_per_step = tokens_per_step
        self.seq_len = seq_len
        self.spans_per_step = spans_per_step
        self._require_whole_spans()
        self.span_tokens = tokens_per_step // spans_per_step

    def _require_whole_spans(self) -> None:
        """A span is a number of whole rows."""
        unit = self.seq_len * self.spans_per_step
        if self.tokens_per_step % unit:
            raise UserError(
                f"data.tokens_per_step={self.tokens_per_step} is not a multiple of seq_len x spans_per_step = "
                f"{self.seq_len} x {self.spans_per_step}; "
                f"type data.tokens_per_step={nearest_multiples(self.tokens_per_step, unit)}"
            )

    def micro_steps(self, world: int) -> int:
        """Micro-steps (gradient accumulation) per step on `world` ranks; UserError unless world divides the spans."""
        if world < 1 or self.spans_per_step % world:
            raise UserError(unequal_shares(self.spans_per_step, world))
        return self.spans_per_step // world

    def span_number(self, micro_step: int, rank: int, world: int) -> int:
        """Number, counted over the whole run, of the span that `rank` takes at `micro_step`."""
        if not 0 <= rank < world:
            raise UserError(f"rank {rank} is outside a world of {world} ranks")
        if self.spans_per_step % world:
            raise UserError(unequal_shares(self.spans_per_step, world))
        return micro_step * world + rank

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Batch:
        """Micro-batch number `micro_step` (counted over the whole run) of `rank`."""
        raise NotImplementedError


class SequentialStream(TokenStream):
    """An endless pass over the shards in order (the challenge's baseline).

    Spans of B/S + 1 tokens follow each other without overlap; inputs = span[:-1], targets = span[1:], cut into rows
    of T without regard to documents. So the tokens of a step do not depend on the world.
    """

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Batch:
        length = self.span_tokens + 1
        span = self.shards.take(self.span_number(micro_step, rank, world) * length, length, wrap=True)
        tokens = torch.from_numpy(span.astype(np.int64))
        return Batch(tokens[:-1].view(-1, self.seq_len), tokens[1:].view(-1, self.seq_len))


def unequal_shares(spans: int, world: int) -> str:
    """Why devices cannot share the spans of a step, and what to type."""
    return (
        f"{world} devices cannot share {spans} spans per step; type hardware.devices= one of "
        f"{[n for n in range(1, spans + 1) if spans % n == 0]}, or a multiple of {world} for data.spans_per_step"
    )


def nearest_multiples(value: int, unit: int) -> str:
    """The multiples of `unit` next to `value`, as text."""
    below = value // unit * unit
    return f"{below} or {below + unit}" if below else f"{unit}"
