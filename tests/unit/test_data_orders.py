"""The orders of tokens: the published rules written out step by step, and what makes them safe to use."""

import math
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from golf.data.coprime import CoprimeStream, hash_strings
from golf.data.packed import PackedStream, segment_boundaries
from golf.data.shards import Shards, write_shard
from golf.data.shuffled import ShuffledStream, weighted_choice
from golf.data.stream import SequentialStream, TokenStream
from golf.data.synthetic import SyntheticSource
from golf.errors import UserError

SIZES = (1000, 517, 2049, 64, 333, 40)
ORDERS = [SequentialStream, CoprimeStream, ShuffledStream, PackedStream]


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Every token tells where it is: shard and place in base 65,536 are not needed, ids are unique within a shard."""
    paths = []
    for index, size in enumerate(SIZES):
        tokens = 2 + np.arange(size) + 3000 * index
        tokens[:: 37 + index] = 1
        paths.append(tmp_path / f"fineweb_train_{index:06d}.bin")
        write_shard(paths[-1], tokens)
    return Shards(paths, bos_id=1)


class FakeShards:
    """80 shards of 100 million tokens that nobody has written; reading one is an error."""

    def __init__(self) -> None:
        self.lengths = [100_000_000] * 80
        self.paths = [f"fineweb_train_{index:06d}.bin" for index in range(80)]

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        raise AssertionError("no token may be read")


def published_shuffled(sizes, rank: int, world: int, seq_len: int, rows: int):
    """The rule of ShuffledStream with numpy's own choice and lists that are popped: (shard, first token) for ever."""
    owned = list(range(rank, len(sizes), world))
    rng = np.random.Generator(np.random.PCG64(rank))
    lists: list[list[int]] = [[] for _ in owned]
    for _ in range(rows):
        if not any(lists):
            for place, shard in enumerate(owned):
                phase = int(rng.integers(min(seq_len - 1, max(0, sizes[shard] - seq_len - 1)) + 1))
                order = rng.permutation(max(0, sizes[shard] - 1 - phase) // seq_len)
                lists[place] = (phase + seq_len * order).tolist()
        left = np.array([len(entries) for entries in lists], dtype=np.float64)
        chosen = int(rng.choice(len(owned), p=left / left.sum()))
        yield owned[chosen], lists[chosen].pop()


@pytest.mark.parametrize(("world", "spans"), [(1, 1), (2, 2), (2, 4), (3, 3)])
def test_shuffled_is_the_published_rule(shards: Shards, world: int, spans: int) -> None:
    stream = ShuffledStream(shards, 12 * 32, 32, spans, ranks=world)
    owners = [list(published_shuffled(SIZES, rank, world, 32, 400)) for rank in range(world)]
    windows = [window for step in range(30) for window in stream.windows(step)]
    assert windows == [window for turn in zip(*owners) for window in turn][: len(windows)]


def test_a_weighted_draw_is_numpys_choice() -> None:
    weights = [5, 0, 3, 1, 0, 7]
    probabilities = np.array(weights) / 16
    draws = np.random.Generator(np.random.PCG64(4))
    uniform = np.random.Generator(np.random.PCG64(4))
    for _ in range(3000):
        assert weighted_choice(uniform.random(), weights, 16) == draws.choice(6, p=probabilities)
    for boundary in (0.0, 5 / 16, 8 / 16, 9 / 16, np.nextafter(5 / 16, 0), np.nextafter(1.0, 0)):
        expected = int((probabilities.cumsum() / probabilities.cumsum()[-1]).searchsorted(boundary, side="right"))
        assert weighted_choice(boundary, weights, 16) == expected


def published_packed(shards: Shards, tokens: int, spans: int, steps: int) -> list[np.ndarray]:
    """The rule of PackedStream as one cursor that moves: the whole step's tokens."""
    found, index = [], 0
    contents = [shards.read(i, 0, n) for i, n in enumerate(shards.lengths)]
    cursor = int(np.flatnonzero(contents[0] == 1)[0])
    length = tokens + spans
    for _ in range(steps):
        while cursor + length > len(contents[index]):
            index = (index + 1) % len(contents)
            cursor = int(np.flatnonzero(contents[index] == 1)[0])
        found.append(contents[index][cursor : cursor + length])
        cursor += length
    return found


@pytest.mark.parametrize("world", [1, 2, 4])
def test_packed_is_the_published_rule(shards: Shards, world: int) -> None:
    stream = PackedStream(shards, 256, 24, 4, bucket=16)
    for step, expected in enumerate(published_packed(shards, 256, 4, 40)):
        for span in range(4):
            micro_step, rank = divmod(step * 4 + span, world)
            batch = stream.batch(micro_step, rank, world)
            part = torch.from_numpy(expected[65 * span : 65 * (span + 1)].astype(np.int64))
            assert batch.inputs_BT.shape == (1, 64)
            assert torch.equal(batch.inputs_BT[0], part[:-1])
            assert torch.equal(batch.targets_BT[0], part[1:])
            assert batch.cu_seqlens is not None
            assert batch.cu_seqlens.dtype == torch.int32
            assert len(batch.cu_seqlens) % 16 == 0
    assert stream.max_seqlen == 24


def test_boundaries_are_documents_cut_at_the_longest() -> None:
    tokens = np.full(20, 9)
    tokens[[3, 4, 15]] = 1
    assert segment_boundaries(tokens, 1, 5, 8).tolist() == [0, 3, 4, 9, 14, 15, 20, 20]
    assert segment_boundaries(tokens, 7, 100, 4).tolist() == [0, 20, 20, 20]
    assert segment_boundaries(np.full(3, 1), 1, 5, 4).tolist() == [0, 1, 2, 3]


def test_coprime_walks_a_shard_in_one_stride_and_repeats_nothing(shards: Shards) -> None:
    stream = CoprimeStream(shards, 16 * 32, 32, 4)
    first = [window for step in range(3) for window in stream.windows(step)]
    assert len(first) == 48
    by_shard: dict[int, list[int]] = {}
    for shard, start in first:
        by_shard.setdefault(shard, []).append(start)
    large = by_shard[2]
    assert len(set(large)) == len(large)
    assert len({start % 32 for start in large}) == 1, "one phase"
    assert all(start >= 0 and start + 33 <= SIZES[shard] for shard, start in first)
    assert {shard for shard, _ in stream.windows(0)} == set(range(6)), "each shard that is mixed gives one"


def test_the_coprime_seed_is_a_hash_of_strings(shards: Shards) -> None:
    assert hash_strings(["ab"]) == ((ord("a") * 1099511628211 % 2**64) ^ ord("b")) * 1099511628211 % 2**64
    assert hash_strings(["a", "b"]) == hash_strings(["ab"])

    def windows(**changes):
        return CoprimeStream(shards, 512, 32, 4, **changes).windows(2)

    assert CoprimeStream(shards, 512, 32, 4).seed_strings()[0] == "fineweb_train_000000.bin"
    assert CoprimeStream(shards, 512, 32, 4, seed_folder="a/b").seed_strings()[0] == "a/b/fineweb_train_000000.bin"
    assert CoprimeStream(shards, 512, 32, 4, seed_folder=None).seed_strings() == shards.paths
    different = [windows(), windows(seed_folder="a"), windows(seed_folder=None), windows(seed=1), windows(seed=2)]
    assert len({str(found) for found in different}) == 5


def test_a_seed_changes_the_shuffled_order(shards: Shards) -> None:
    found = [ShuffledStream(shards, 512, 32, 4, ranks=2, seed=seed).windows(1) for seed in (None, 0, 1)]
    assert len({str(windows) for windows in found}) == 3


@pytest.mark.parametrize("order", ORDERS)
def test_a_step_holds_the_same_tokens_on_any_number_of_ranks(shards: Shards, order: type[TokenStream]) -> None:
    stream = order(shards, 256, 32, 4)
    expected = [stream.batch(number) for number in range(12)]
    for world in (2, 4):
        again = order(shards, 256, 32, 4)
        for number, batch in enumerate(expected):
            assert same(again.batch(number // world, number % world, world), batch)


@pytest.mark.parametrize("order", ORDERS)
def test_streams_travel_to_workers(shards: Shards, order: type[TokenStream]) -> None:
    stream = order(shards, 256, 32, 4)
    stream.batch(5)
    copy = pickle.loads(pickle.dumps(stream))
    assert same(copy.batch(9), stream.batch(9))
    assert same(copy.batch(2), stream.batch(2))


def same(a, b) -> bool:
    pairs = [(x, y) for x, y in zip(a, b) if x is not None or y is not None]
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("order", [CoprimeStream, ShuffledStream])
def test_resuming_at_step_5000_takes_seconds_and_reads_nothing(order) -> None:
    stream = order(FakeShards(), 786_432, 2048, 8)
    begun = time.perf_counter()
    windows = list(stream.span_windows(5000, 0))
    assert time.perf_counter() - begun < 20
    assert len(windows) == 48
    assert all(0 <= start <= 100_000_000 - 2049 for _, start in windows)


def test_wrong_settings_say_what_to_type(shards: Shards, tmp_path: Path) -> None:
    for order in (CoprimeStream, ShuffledStream):
        with pytest.raises(UserError, match=r"type data\.tokens_per_step=256 or 512"):
            order(shards, 300, 32, 8)
        with pytest.raises(UserError, match=r"data\.order\.ranks=0.*type data\.order\.ranks=8"):
            order(shards, 256, 32, 8, ranks=0)
        with pytest.raises(UserError, match=r"data\.order\.seed=-1"):
            order(shards, 256, 32, 8, seed=-1)
        with pytest.raises(UserError, match=r"no shard holds one window of data\.seq_len=4096.*data\.seq_len=2048"):
            order(shards, 4096, 4096, 1)
    with pytest.raises(UserError, match=r"data\.order\.ramp_steps=0"):
        CoprimeStream(shards, 256, 32, 8, ramp_steps=0)
    with pytest.raises(UserError, match=r"files of rank 3 are shorter.*type data\.order\.ranks=1"):
        ShuffledStream(shards, 512, 64, 8)
    with pytest.raises(UserError, match=r"not a multiple of data\.spans_per_step=8; type data\.tokens_per_step=296 or"):
        PackedStream(shards, 300, 32, 8)
    with pytest.raises(UserError, match=r"data\.order\.bucket=0"):
        PackedStream(shards, 256, 32, 8, bucket=0)
    with pytest.raises(UserError, match="no shard holds a whole step"):
        PackedStream(shards, 4096, 32, 8)
    with pytest.raises(UserError, match=r"3 devices cannot share 8 spans"):
        PackedStream(shards, 256, 32, 8).batch(0, 0, 3)
    for bos_id in (None, -1):
        with pytest.raises(UserError, match=r"no BOS.*data/order=sequential"):
            PackedStream(Shards(shards.paths, bos_id=bos_id), 256, 32, 8)
    bad = Shards(shards.paths, vocab_size=9000, bos_id=1)
    with pytest.raises(UserError, match="outside the vocabulary of 9000"):
        [CoprimeStream(bad, 256, 32, 8).batch(number) for number in range(8)]


def test_a_shard_that_shrinks_is_noticed(shards: Shards) -> None:
    assert shards.read(1, 510, 7).tolist() == [3000 + 2 + place for place in range(510, 517)]
    with pytest.raises(UserError, match="tokens 510 to 518 are outside"):
        shards.read(1, 510, 8)
    with open(shards.paths[1], "r+b") as file:
        file.truncate(1024 + 200)
    with pytest.raises(UserError, match="has become shorter"):
        shards.read(1, 510, 7)


@pytest.mark.parametrize("order", ORDERS)
def test_a_data_option_takes_every_order(order, tmp_path: Path) -> None:
    sizes = {"vocab_size": 64, "branches": 4, "document_tokens": 20.0, "train_tokens": 3000, "val_tokens": 400}
    steps = {"tokens_per_step": 128, "seq_len": 16, "spans_per_step": 2}
    data = SyntheticSource(str(tmp_path), **sizes, **steps, order=order)
    batch = data.stream(data.prepare(), 64).batch(3)
    assert batch.inputs_BT.numel() == 64
    if order is PackedStream:
        assert batch.cu_seqlens is not None
        starts = [place for place in batch.cu_seqlens.tolist() if 0 < place < 64]
        assert any(batch.inputs_BT[0, place] == 1 for place in starts), "the source has documents"


def test_strides_are_coprime(shards: Shards) -> None:
    stream = CoprimeStream(shards, 512, 32, 4)
    state = stream._start()
    for _ in range(4):
        state, _ = stream._advance(state, False)
    for phase, blocks, used, start, stride in state.cursors.tolist():
        assert math.gcd(stride, blocks) == 1
        assert 0 <= phase < 32
        assert 0 <= start < blocks
        assert 0 < used <= blocks


def test_boundaries_travel_with_the_batch(shards: Shards) -> None:
    from golf.training.datamodule import move_batch

    moved: list[torch.Tensor] = []

    def move(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(tensor)
        return tensor.clone()

    packed = PackedStream(shards, 256, 32, 4).batch(0)
    assert same(move_batch(packed, move), packed)
    assert len(moved) == 3
    rows = ShuffledStream(shards, 256, 32, 4).batch(0)
    assert move_batch(rows, move).cu_seqlens is None
    assert len(moved) == 5
