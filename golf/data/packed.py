"""Packed documents: one flat row per rank and micro-step, with the boundaries inside which attention may look.

Published rule (records from 10 April 2026): shards in order; the cursor begins at the first BOS of a shard, a step
takes S·(B/S + 1) consecutive tokens and span s its s-th part (inputs = span[:-1], targets = span[1:]); a rest of a
shard that is too short for a whole step is dropped; after the last shard comes the first again. Segments begin where
the inputs have a BOS and at the first token, and every segment is cut again at multiples of T from its own start.
`cu_seqlens` lists the starts and the total, padded with the total to a multiple of `bucket`; a compiled network takes
any length of it without compiling again (`GPT.forward`).

The published scripts drop by micro-steps of all ranks, which on 8 GPUs (no accumulation) is a step; here it is the step
on any number of devices. Invariant: the position of a step is a formula of its number (nothing is read to find it).
Legend: B tokens of a step, S spans, T `seq_len`: the longest segment.
"""

import numpy as np
import torch

from golf.data.shards import Shards
from golf.data.stream import Batch, TokenStream, nearest_multiples
from golf.errors import UserError

SEARCHED_TOKENS = 1 << 16


class PackedStream(TokenStream):
    """Flat rows [1, B/S] with `cu_seqlens`. The shards must know their BOS (`Shards(…, bos_id=…)`)."""

    def __init__(
        self, shards: Shards, tokens_per_step: int, seq_len: int, spans_per_step: int = 8, bucket: int = 64
    ) -> None:
        super().__init__(shards, tokens_per_step, seq_len, spans_per_step)
        if bucket < 1:
            raise UserError(f"data.order.bucket={bucket} must be at least 1; type data.order.bucket=64")
        if shards.bos_id is None or shards.bos_id < 0:
            raise UserError("this tokenizer has no BOS, so documents cannot be told apart; type data/order=sequential")
        self.max_seqlen = seq_len
        self.bucket = bucket
        self._bos_id = shards.bos_id
        self._step_length = spans_per_step * (self.span_tokens + 1)
        self._first = [first_bos(shards, index) for index in range(len(shards.lengths))]
        steps = [max(0, n - first) // self._step_length for n, first in zip(shards.lengths, self._first)]
        self._steps_until = np.cumsum(steps)
        if not self._steps_until[-1]:
            raise UserError(
                f"no shard holds a whole step of data.tokens_per_step={tokens_per_step} + {spans_per_step} tokens; "
                "type a smaller data.tokens_per_step, or data/order=sequential"
            )

    def _require_whole_spans(self) -> None:
        """Spans are equal; segments are at most seq_len long, but need not fill it."""
        if self.tokens_per_step % self.spans_per_step:
            raise UserError(
                f"data.tokens_per_step={self.tokens_per_step} is not a multiple of "
                f"data.spans_per_step={self.spans_per_step}; "
                f"type data.tokens_per_step={nearest_multiples(self.tokens_per_step, self.spans_per_step)}"
            )

    def position(self, step: int) -> tuple[int, int]:
        """Shard and first token of a step."""
        in_epoch = step % int(self._steps_until[-1])
        shard = int(np.searchsorted(self._steps_until, in_epoch, side="right"))
        earlier = int(self._steps_until[shard - 1]) if shard else 0
        return shard, self._first[shard] + (in_epoch - earlier) * self._step_length

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Batch:
        step, span = divmod(self.span_number(micro_step, rank, world), self.spans_per_step)
        shard, start = self.position(step)
        length = self.span_tokens + 1
        tokens = self.shards.read(shard, start + span * length, length)
        cu_seqlens = segment_boundaries(tokens[:-1], self._bos_id, self.seq_len, self.bucket)
        row = torch.from_numpy(tokens.astype(np.int64))
        return Batch(row[None, :-1], row[None, 1:], torch.from_numpy(cu_seqlens))


def first_bos(shards: Shards, index: int) -> int:
    """Position of the first BOS of a shard; 0 if it has none."""
    for start in range(0, shards.lengths[index], SEARCHED_TOKENS):
        tokens = shards.read(index, start, min(SEARCHED_TOKENS, shards.lengths[index] - start))
        found = np.flatnonzero(tokens == shards.bos_id)
        if len(found):
            return start + int(found[0])
    return 0


def segment_boundaries(inputs_T: np.ndarray, bos_id: int, longest: int, bucket: int) -> np.ndarray:
    """Starts of the segments of a flat row and its length, padded with the length to a multiple of `bucket`; int32."""
    total = len(inputs_T)
    starts = np.flatnonzero(inputs_T == bos_id)
    if not len(starts) or starts[0]:
        starts = np.concatenate([[0], starts])
    pieces = -(-np.diff(starts, append=total) // longest)
    within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    boundaries = np.append(np.repeat(starts, pieces) + within * longest, total)
    padding = -len(boundaries) % bucket
    return np.pad(boundaries, (0, padding), constant_values=total).astype(np.int32)
