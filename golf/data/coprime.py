"""Coprime strides: the windows of every shard in a fixed jump, mixed from many shards in each batch.

Published rule (records of 29 and 31 March and of early April 2026), the same on all ranks. PCG64 seeded with a hash of
the shards' path strings: h = 0; for every byte h = (h xor byte)·1099511628211 mod 2^64. A shard of N tokens has a
cursor (drawn when first used, and again when used up): phase = integers(min(T − 1, N − T − 1) + 1),
b = ⌊(N − 1 − phase)/T⌋ blocks, start = integers(b), stride = integers(1, b) until coprime to b; its k-th window begins
at phase + T·((start + k·stride) mod b).
Batch t of n windows, p = min(t/1800, 1): shards weigh (windows left)^(0.9 − 0.4p); round(low + p·(high − low))
of them are chosen without replacement, low = max(8, W), high = max(32, 8W), both at most the shards and n. Each gives
one window and a multinomial share of the rest, in permuted order; then rounds over the shards, permuted each time, take
the last window of each until none is left. Rank r takes windows r, r + W, ….

Here a batch is a whole step, and W is `ranks`, so the tokens of a step do not depend on the run's devices.
Invariant: no window of a shard repeats before all windows of its cursor were used.
"""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from golf.data.replay import Replay, generator_at
from golf.data.shards import Shards
from golf.data.windows import WindowStream
from golf.errors import UserError

HASH_FACTOR = 1099511628211
FIRST_EXPONENT, LAST_EXPONENT = 0.90, 0.50
PHASE, BLOCKS, USED, START, STRIDE = range(5)


class CoprimeState(NamedTuple):
    """Generator, steps built, and int64 [shards, 5]: phase, blocks (0 = no cursor yet), used, start, stride."""

    generator: Mapping[str, Any]
    step: int
    cursors: np.ndarray


class CoprimeStream(WindowStream):
    """Windows of many shards in every step, from few shards at first to many later.

    Args:
        seed_folder: which strings are hashed. "": the files' names, so that the order is the same wherever the data
            lies; a text: as if the files lay in that folder; None: the paths as they are here (as published).
        ramp_steps: steps until the mix is at its widest.
    """

    def __init__(
        self,
        shards: Shards,
        tokens_per_step: int,
        seq_len: int,
        spans_per_step: int = 8,
        ranks: int = 8,
        seed_folder: str | None = "",
        seed: int | None = None,
        ramp_steps: int = 1800,
    ) -> None:
        super().__init__(shards, tokens_per_step, seq_len, spans_per_step, ranks, seed)
        if ramp_steps < 1:
            raise UserError(f"data.order.ramp_steps={ramp_steps} must be at least 1; type data.order.ramp_steps=1800")
        self.seed_folder, self.ramp_steps = seed_folder, ramp_steps
        self._steps = Replay(self._start, self._advance)

    def span_windows(self, step: int, span: int) -> list[tuple[int, int]]:
        return self._steps.item(step)[span :: self.spans_per_step]

    def seed_strings(self) -> list[str]:
        """The strings that are hashed."""
        if self.seed_folder is None:
            return self.shards.paths
        return [(PurePath(self.seed_folder) / PurePath(path).name).as_posix() for path in self.shards.paths]

    def _start(self) -> CoprimeState:
        generator = self.generator(hash_strings(self.seed_strings()))
        return CoprimeState(generator.bit_generator.state, 0, np.zeros((len(self.shards.lengths), 5), dtype=np.int64))

    def _advance(self, state: CoprimeState, wanted: bool) -> tuple[CoprimeState, list[tuple[int, int]]]:
        """The windows of one step."""
        rng, cursors = generator_at(state.generator), state.cursors.copy()
        shards, counts = self._choose_shards(rng, cursors, min(state.step / self.ramp_steps, 1.0))
        buckets: list[list[tuple[int, int]]] = []
        for shard, count in zip(shards.tolist(), counts.tolist()):
            pieces = self._draw(rng, cursors, shard, count)
            order = rng.permutation(count) if count > 1 else np.zeros(1, dtype=np.int64)
            if wanted:
                buckets.append([(shard, start) for start in np.concatenate(pieces)[order].tolist()])
        windows: list[tuple[int, int]] = []
        active = list(range(len(counts)))
        taken = 0
        while active:
            order = rng.permutation(len(active)).tolist()
            active = [active[place] for place in order]
            windows += [buckets[place].pop() for place in active] if wanted else []
            taken += 1
            active = [place for place in active if counts[place] > taken]
        return CoprimeState(rng.bit_generator.state, state.step + 1, cursors), windows

    def _choose_shards(
        self, rng: np.random.Generator, cursors: np.ndarray, progress: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shards of a step and the windows each of them gives."""
        usable = np.array(self.usable)
        whole = (np.array(self.shards.lengths)[usable] - 1) // self.seq_len
        blocks, used = cursors[usable, BLOCKS], cursors[usable, USED]
        left = np.where(blocks > 0, np.maximum(blocks - used, 1), whole).astype(np.float64)
        weights = left ** (FIRST_EXPONENT - (FIRST_EXPONENT - LAST_EXPONENT) * progress)
        shares = weights / weights.sum()
        most = min(len(usable), self.windows_per_step)
        low, high = min(max(8, self.ranks), most), min(max(32, 8 * self.ranks), most)
        mix = min(max(round(low + progress * (high - low)), 1), most)
        chosen = rng.choice(len(usable), size=mix, replace=False, p=shares)
        counts = np.ones(mix, dtype=np.int64)
        if self.windows_per_step > mix:
            counts += rng.multinomial(self.windows_per_step - mix, shares[chosen] / shares[chosen].sum())
        order = rng.permutation(mix)
        return usable[chosen][order], counts[order]

    def _draw(self, rng: np.random.Generator, cursors: np.ndarray, shard: int, count: int) -> list[np.ndarray]:
        """First tokens of the next `count` windows of a shard, in pieces; moves its cursor on."""
        pieces = []
        while count:
            if cursors[shard, USED] >= cursors[shard, BLOCKS]:
                cursors[shard] = self._new_cursor(rng, self.shards.lengths[shard])
            phase, blocks, used, start, stride = cursors[shard].tolist()
            taken = min(count, blocks - used)
            pieces.append(phase + (start + np.arange(used, used + taken) * stride) % blocks * self.seq_len)
            cursors[shard, USED] += taken
            count -= taken
        return pieces

    def _new_cursor(self, rng: np.random.Generator, length: int) -> tuple[int, int, int, int, int]:
        phase = int(rng.integers(min(self.seq_len - 1, length - self.seq_len - 1) + 1))
        blocks = (length - 1 - phase) // self.seq_len
        start = int(rng.integers(blocks)) if blocks > 1 else 0
        stride = int(rng.integers(1, blocks)) if blocks > 1 else 1
        while math.gcd(stride, blocks) != 1:
            stride = int(rng.integers(1, blocks))
        return phase, blocks, 0, start, stride


def hash_strings(strings: list[str]) -> int:
    """64-bit hash of all bytes of all strings, one after the other."""
    value = 0
    for text in strings:
        for byte in text.encode():
            value = (value ^ byte) * HASH_FACTOR % 2**64
    return value
