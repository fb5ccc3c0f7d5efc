"""Properties: random access equals a sequential reader, however the tokens are cut into shards."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.data.bytes import ByteTable
from golf.data.shards import Shards, write_shard
from golf.data.stream import SequentialStream


def write_cut(folder: Path, tokens: np.ndarray, cuts: list[int]) -> Shards:
    """Shards of `tokens` cut at the given places."""
    bounds = sorted({0, len(tokens), *(cut % len(tokens) for cut in cuts)})
    paths = []
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        paths.append(folder / f"fineweb_train_{index:06d}.bin")
        write_shard(paths[-1], tokens[first:last])
    return Shards(paths)


class SequentialReader:
    """The slow truth: one token after the other, from the start again at the end."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens.tolist()
        self.place = 0

    def read(self, count: int) -> list[int]:
        taken = []
        for _ in range(count):
            taken.append(self.tokens[self.place])
            self.place = (self.place + 1) % len(self.tokens)
        return taken


@settings(max_examples=60, deadline=None)
@given(
    num_tokens=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 10_000), max_size=6),
    seq_len=st.integers(1, 9),
    rows=st.integers(1, 3),
    spans_and_world=st.sampled_from([(1, 1), (2, 1), (2, 2), (8, 1), (8, 4), (6, 3)]),
    order_seed=st.integers(0, 2**31),
)
def test_random_access_equals_a_sequential_reader(num_tokens, cuts, seq_len, rows, spans_and_world, order_seed) -> None:
    spans, world = spans_and_world
    rng = np.random.default_rng(order_seed)
    tokens = rng.integers(0, 1000, size=num_tokens)
    with tempfile.TemporaryDirectory() as folder:
        stream = SequentialStream(write_cut(Path(folder), tokens, cuts), spans * rows * seq_len, seq_len, spans)
        reader = SequentialReader(tokens)
        calls = [(micro_step, rank) for micro_step in range(6) for rank in range(world)]
        truth = {call: reader.read(rows * seq_len + 1) for call in calls}
        for index in rng.permutation(len(calls)):
            micro_step, rank = calls[index]
            batch = stream.batch(micro_step, rank, world)
            span = torch.tensor(truth[calls[index]])
            assert torch.equal(batch.inputs_BT, span[:-1].view(rows, seq_len))
            assert torch.equal(batch.targets_BT, span[1:].view(rows, seq_len))


@settings(max_examples=60, deadline=None)
@given(
    num_tokens=st.integers(2, 300),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
    start=st.integers(0, 2000),
    count=st.integers(0, 700),
)
def test_any_span_wraps_around_as_if_the_stream_were_endless(num_tokens, cuts, start, count) -> None:
    tokens = np.random.default_rng(num_tokens).integers(0, 65536, size=num_tokens)
    endless = np.tile(tokens, (start + count) // num_tokens + 1)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_cut(Path(folder), tokens, cuts)
        assert shards.take(start, count, wrap=True).tolist() == endless[start : start + count].tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_the_byte_table_is_its_formula_and_survives_storage(vocab_size, seed) -> None:
    rng = np.random.default_rng(seed)
    table = ByteTable(
        rng.integers(0, 16, size=vocab_size).astype(np.int16),
        rng.random(vocab_size) < 0.4,
        rng.random(vocab_size) < 0.3,
    )
    tokens = rng.integers(0, vocab_size, size=50)
    formula = [
        int(table.base_bytes[target]) + int(table.leading_space[target] and not table.boundary[previous])
        for previous, target in itertools.pairwise(tokens)
    ]
    assert table.count_stream(tokens).tolist() == formula
    assert ByteTable.from_arrays(table.arrays()).count_stream(tokens).tolist() == formula
    assert table.count_stream(tokens).dtype == np.int64
