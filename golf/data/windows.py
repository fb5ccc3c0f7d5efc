"""Streams whose rows are windows of T + 1 tokens from anywhere in the shards.

A step is a list of B/T windows (shard, first token); span s of S takes windows s, s + S, s + 2S …, so that the windows
of a step do not depend on the number of devices, nor on the number of spans. An order says which windows a step has.
Legend: B tokens of a step, T time, S spans.
"""

from collections.abc import Iterable

import numpy as np
import torch

from golf.data.shards import Shards
from golf.data.stream import Batch, TokenStream
from golf.errors import UserError


class WindowStream(TokenStream):
    """Rows from windows; an order adds `span_windows`.

    Args:
        ranks: devices of the run whose order this is (8 = as published); not those of this run.
        seed: None = the published rule, in which no seed of the run enters; a number gives another order.
    """

    def __init__(
        self,
        shards: Shards,
        tokens_per_step: int,
        seq_len: int,
        spans_per_step: int = 8,
        ranks: int = 8,
        seed: int | None = None,
    ) -> None:
        super().__init__(shards, tokens_per_step, seq_len, spans_per_step)
        if ranks < 1:
            raise UserError(f"data.order.ranks={ranks} must be at least 1; type data.order.ranks=8")
        if seed is not None and seed < 0:
            raise UserError(f"data.order.seed={seed} must be at least 0; type data.order.seed=1, or null as published")
        self.ranks = ranks
        self.seed = seed
        self.windows_per_step = tokens_per_step // seq_len
        self.usable = [index for index, length in enumerate(shards.lengths) if length > seq_len]
        if not self.usable:
            raise UserError(
                f"no shard holds one window of data.seq_len={seq_len} + 1 tokens; "
                f"type data.seq_len={max(1, max(shards.lengths) - 1)} or less"
            )

    def generator(self, number: int) -> np.random.Generator:
        """PCG64 seeded with a number of the rule, and with `seed` where there is one."""
        # One more than the seed: numpy takes a list that ends in 0 for the list without it.
        return np.random.Generator(np.random.PCG64(number if self.seed is None else [number, self.seed + 1]))

    def span_windows(self, step: int, span: int) -> Iterable[tuple[int, int]]:
        """(shard, first token) of every row of span number `span` of a step."""
        raise NotImplementedError

    def windows(self, step: int) -> list[tuple[int, int]]:
        """All windows of a step in the order in which the spans take turns."""
        spans = [list(self.span_windows(step, span)) for span in range(self.spans_per_step)]
        return [window for turn in zip(*spans) for window in turn]

    def batch(self, micro_step: int, rank: int = 0, world: int = 1) -> Batch:
        step, span = divmod(self.span_number(micro_step, rank, world), self.spans_per_step)
        length = self.seq_len + 1
        rows = [self.shards.read(shard, start, length) for shard, start in self.span_windows(step, span)]
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
        return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
