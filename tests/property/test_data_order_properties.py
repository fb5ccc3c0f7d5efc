"""Properties of the orders: going on equals never having stopped; nothing is skipped, repeated or mixed up."""

import itertools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.data.coprime import CoprimeStream
from golf.data.packed import PackedStream, segment_boundaries
from golf.data.shards import Shards, write_shard
from golf.data.shuffled import ShuffledStream
from golf.data.stream import Batch, SequentialStream
from golf.errors import UserError

ORDERS = [SequentialStream, CoprimeStream, ShuffledStream, PackedStream]
BOS = 1


def write_shards(folder: str, sizes: list[int], seed: int) -> Shards:
    """Shards of random tokens, with documents of about 12."""
    paths = []
    for index, size in enumerate(sizes):
        tokens = np.random.default_rng([seed, index]).integers(0, 5000, size=size)
        tokens[np.random.default_rng([seed, index, 1]).random(size) < 0.08] = BOS
        paths.append(Path(folder) / f"fineweb_train_{index:06d}.bin")
        write_shard(paths[-1], tokens)
    return Shards(paths, bos_id=BOS)


def same(a: Batch, b: Batch) -> bool:
    return all((x is None and y is None) or torch.equal(x, y) for x, y in zip(a, b))


@settings(max_examples=40, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    sizes=st.lists(st.integers(100, 600), min_size=1, max_size=5),
    seq_len=st.integers(1, 12),
    spans_and_world=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 3)]),
    first=st.integers(0, 150),
    seed=st.integers(0, 2**31),
)
def test_resuming_anywhere_equals_an_uninterrupted_run(order, sizes, seq_len, spans_and_world, first, seed) -> None:
    spans, world = spans_and_world
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(folder, sizes, seed)
        tokens = spans * seq_len * max(1, 48 // (spans * seq_len))
        whole = order(shards, tokens, seq_len, spans)
        calls = [(micro_step, rank) for micro_step in range(first + 6) for rank in range(world)]
        truth = {call: whole.batch(*call, world) for call in calls}
        resumed = order(shards, tokens, seq_len, spans)
        later = calls[first * world :]
        assert all(same(resumed.batch(*call, world), truth[call]) for call in later)
        shuffled = [later[place] for place in np.random.default_rng(seed).permutation(len(later))]
        with ThreadPoolExecutor(3) as workers:  # a prefetch queue that asks in any order
            found = list(workers.map(lambda call: resumed.batch(*call, world), shuffled))
        assert all(same(batch, truth[call]) for call, batch in zip(shuffled, found))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(30, 400), min_size=1, max_size=5),
    seq_len=st.integers(1, 20),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_shuffled_windows_use_every_token_once_before_any_twice(sizes, seq_len, ranks, seed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stream = ShuffledStream(write_shards(folder, sizes, seed), 4 * seq_len, seq_len, 1, ranks=ranks, seed=seed)
        owners = stream.owners
        drawn = {owner: [] for owner in range(owners)}
        for number, window in enumerate(window for step in range(120) for window in stream.windows(step)):
            drawn[number % owners].append(window)
    for owner, windows in drawn.items():
        place = 0
        while place < len(windows):
            # One epoch of this owner: all windows of a phase per file, none twice, nothing between them left out.
            seen: dict[int, list[int]] = {}
            taken = set()
            while place < len(windows) and not complete(seen, sizes, seq_len, owner, owners):
                assert windows[place] not in taken
                shard, start = windows[place]
                assert shard % owners == owner
                assert start + seq_len + 1 <= sizes[shard]
                taken.add(windows[place])
                seen.setdefault(shard, []).append(start)
                place += 1
            for starts in seen.values():
                assert len({start % seq_len for start in starts}) == 1
            if place < len(windows):
                assert complete(seen, sizes, seq_len, owner, owners)


def complete(seen: dict[int, list[int]], sizes: list[int], seq_len: int, owner: int, owners: int) -> bool:
    """True if every window of the phase of every file of an owner has been seen."""
    for shard in range(owner, len(sizes), owners):
        starts = sorted(seen.get(shard, []))
        if not starts:
            return False
        phase = starts[0] % seq_len
        if starts != list(range(phase, sizes[shard] - seq_len, seq_len)):
            return False
    return True


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(30, 300), min_size=1, max_size=5),
    seq_len=st.integers(1, 20),
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_coprime_windows_use_every_token_once_before_any_twice(sizes, seq_len, rows, seed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stream = CoprimeStream(write_shards(folder, sizes, seed), rows * seq_len, seq_len, 1, seed=seed)
        state, drawn = stream._start(), {shard: [] for shard in range(len(sizes))}
        for step in range(30):
            before = state
            state, windows = stream._advance(state, True)
            assert stream._advance(before, False)[0].generator == state.generator, "a replay leaves the same state"
            assert windows == stream.windows(step)
            assert len(windows) == rows
            for shard, start in windows:
                assert start >= 0
                assert start + seq_len + 1 <= sizes[shard]
                drawn[shard].append(start)
    for shard, starts in drawn.items():
        if starts and len(starts) <= (sizes[shard] - seq_len) // seq_len:
            assert len({start % seq_len for start in starts}) == 1
            assert len(set(starts)) == len(starts)


@settings(max_examples=100, deadline=None)
@given(
    total=st.integers(1, 300),
    share=st.floats(0, 1),
    longest=st.integers(1, 50),
    bucket=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)
def test_a_segment_is_a_document_or_a_piece_of_one(total, share, longest, bucket, seed) -> None:
    rng = np.random.default_rng(seed)
    tokens = np.where(rng.random(total) < share, BOS, 7)
    padded = segment_boundaries(tokens, BOS, longest, bucket)
    count = int(np.argmax(padded == total)) + 1
    boundaries = padded[:count].tolist()
    assert padded.dtype == np.int32
    assert len(padded) % bucket == 0
    assert len(padded) - count < bucket
    assert (padded[count:] == total).all()
    assert boundaries[0] == 0
    assert boundaries[-1] == total
    document = 0
    for start, end in itertools.pairwise(boundaries):
        assert 0 < end - start <= longest
        document = start if tokens[start] == BOS else document
        assert (start - document) % longest == 0
        assert BOS not in tokens[start + 1 : end], "no segment holds a part of two documents"


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(60, 500), min_size=1, max_size=5),
    spans=st.integers(1, 4),
    span_tokens=st.integers(1, 14),
    seed=st.integers(0, 2**31),
)
def test_packed_steps_follow_each_other_without_gap_inside_a_shard(sizes, spans, span_tokens, seed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(folder, sizes, seed)
        contents = [shards.read(index, 0, size) for index, size in enumerate(sizes)]
        length = spans * (span_tokens + 1)
        epoch = []
        for shard, tokens in enumerate(contents):
            first = int(np.argmax(tokens == BOS))
            epoch += [(shard, start) for start in range(first, len(tokens) - length + 1, length)]
        if not epoch:
            with pytest.raises(UserError, match="no shard holds a whole step"):
                PackedStream(shards, spans * span_tokens, 8, spans)
            return
        stream = PackedStream(shards, spans * span_tokens, 8, spans)
        assert [stream.position(step) for step in range(2 * len(epoch))] == epoch * 2
