"""Shuffled windows: every rank draws windows without replacement from files of its own.

Published rule (records from 5 April 2026): rank r of W owns the files r, r + W, r + 2W … and has a PCG64 generator
seeded with r. For each file in turn: phase = integers(min(T − 1, N − T − 1) + 1), n = ⌊(N − 1 − phase)/T⌋ windows that
begin at phase + T·permutation(n). For each row of a batch a file is drawn with probability proportional to the windows
it has left, and its last one is taken; when all are used up, all files are shuffled anew.

Which files a rank owns, and so the tokens of a step, depend in that rule on the number of devices. Here W is `ranks`,
whatever the run's own devices: the order of the published 8-GPU runs on any of them. Fewer files than ranks: as many
owners as files. Invariant: no window of an owner repeats before all its windows were used.
Legend: N tokens of a file, T time.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from golf.data.replay import Replay, generator_at
from golf.data.shards import Shards
from golf.data.windows import WindowStream
from golf.errors import UserError

DRAWS_PER_BLOCK = 64
SAFE_DISTANCE = 1e-3


class ShuffledStream(WindowStream):
    """Windows drawn by `ranks` owners: window i of a step comes from owner i modulo `ranks`."""

    def __init__(
        self,
        shards: Shards,
        tokens_per_step: int,
        seq_len: int,
        spans_per_step: int = 8,
        ranks: int = 8,
        seed: int | None = None,
    ) -> None:
        super().__init__(shards, tokens_per_step, seq_len, spans_per_step, ranks, seed)
        self.owners = min(ranks, len(shards.lengths))
        for owner in range(self.owners):
            if not any(index in self.usable for index in self._files_of(owner)):
                raise UserError(
                    f"data.order.ranks={ranks}: the files of rank {owner} are shorter than one window of "
                    f"data.seq_len={seq_len} + 1 tokens; type data.order.ranks=1 or a smaller data.seq_len"
                )
        self._draws = [Replay(partial(self._start, o), partial(self._advance, o)) for o in range(self.owners)]

    def span_windows(self, step: int, span: int) -> Iterator[tuple[int, int]]:
        first = step * self.windows_per_step + span
        for number in range(first, (step + 1) * self.windows_per_step, self.spans_per_step):
            draw, owner = divmod(number, self.owners)
            block, place = divmod(draw, DRAWS_PER_BLOCK)
            yield self._draws[owner].item(block)[place]

    def _files_of(self, owner: int) -> range:
        return range(owner, len(self.shards.lengths), self.owners)

    def _start(self, owner: int) -> tuple[Mapping[str, Any], list[np.ndarray], list[int]]:
        """The first state of an owner: generator, first tokens of the windows of its files, windows left of each."""
        rng = self.generator(owner)
        starts = self._shuffle(owner, rng)
        return rng.bit_generator.state, starts, [len(file) for file in starts]

    def _shuffle(self, owner: int, rng: np.random.Generator) -> list[np.ndarray]:
        starts = []
        for index in self._files_of(owner):
            length = self.shards.lengths[index]
            max_phase = min(self.seq_len - 1, max(0, length - self.seq_len - 1))
            phase = int(rng.integers(max_phase + 1))
            count = max(0, length - 1 - phase) // self.seq_len
            starts.append((phase + self.seq_len * rng.permutation(count)).astype(np.int32))
        return starts

    def _advance(self, owner: int, state: Any, wanted: bool) -> tuple[Any, list[tuple[int, int]]]:
        """The next block of draws."""
        generator, starts, left = state
        rng, files, left = generator_at(generator), self._files_of(owner), list(left)
        block: list[tuple[int, int]] = []
        total = sum(left)
        for _ in range(DRAWS_PER_BLOCK):
            if not total:
                starts = self._shuffle(owner, rng)
                left = [len(file) for file in starts]
                total = sum(left)
            chosen = weighted_choice(rng.random(), left, total)
            left[chosen] -= 1
            total -= 1
            if wanted:
                block.append((files[chosen], int(starts[chosen][left[chosen]])))
        return (rng.bit_generator.state, starts, left), block


def weighted_choice(uniform: float, weights: list[int], total: int) -> int:
    """What numpy's `choice(len(weights), p=weights / total)` makes of one uniform number, without its overhead.

    The first index whose cumulative weight exceeds uniform · total; next to a boundary, where rounding decides, numpy's
    own operations are repeated.
    """
    target, reached = uniform * total, 0
    for index, weight in enumerate(weights):
        reached += weight
        if reached > target + SAFE_DISTANCE:
            if target > reached - weight + SAFE_DISTANCE:
                return index
            break
    cumulative = (np.array(weights, dtype=np.float64) / total).cumsum()
    cumulative /= cumulative[-1]
    return int(cumulative.searchsorted(uniform, side="right"))
