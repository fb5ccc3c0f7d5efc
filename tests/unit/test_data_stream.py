"""The training stream: the challenge's order of tokens, for any number of ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golf.data.shards import Shards, write_shard
from golf.data.stream import SequentialStream
from golf.errors import UserError


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    write_shard(tmp_path / "a.bin", np.arange(300))
    write_shard(tmp_path / "b.bin", np.arange(300, 1000))
    return Shards([tmp_path / "a.bin", tmp_path / "b.bin"])


def test_spans_follow_each_other_with_one_token_over(shards: Shards) -> None:
    stream = SequentialStream(shards, tokens_per_step=64, seq_len=4, spans_per_step=8)
    first, second = stream.batch(0), stream.batch(1)
    assert first.inputs_BT.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert first.targets_BT.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert second.inputs_BT[0].tolist() == [9, 10, 11, 12]
    assert first.inputs_BT.dtype == torch.int64
    assert first.inputs_BT.is_contiguous()
    assert first.targets_BT.is_contiguous()


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_a_step_holds_the_same_spans_on_any_number_of_ranks(shards: Shards, world: int) -> None:
    stream = SequentialStream(shards, tokens_per_step=64, seq_len=8, spans_per_step=8)
    expected = [stream.batch(micro_step).inputs_BT for micro_step in range(24)]
    micro_steps = 3 * stream.micro_steps(world)
    got = [stream.batch(micro, rank, world).inputs_BT for micro in range(micro_steps) for rank in range(world)]
    assert torch.equal(torch.stack(got), torch.stack(expected))


def test_impossible_cuts_say_what_to_type(shards: Shards) -> None:
    with pytest.raises(UserError, match=r"not a multiple .* = 4 x 8; type data\.tokens_per_step=64 or 96"):
        SequentialStream(shards, 70, 4, 8)
    with pytest.raises(UserError, match=r"type data\.tokens_per_step=32$"):
        SequentialStream(shards, 7, 4, 8)
    with pytest.raises(UserError, match=r"data\.seq_len=0"):
        SequentialStream(shards, 64, 0, 8)
    stream = SequentialStream(shards, 64, 4, 8)
    with pytest.raises(UserError, match=r"3 devices cannot share 8 spans.*\[1, 2, 4, 8\]"):
        stream.batch(0, 0, 3)
    with pytest.raises(UserError, match="rank 2 is outside a world of 2"):
        stream.batch(0, 2, 2)


def test_a_bad_id_never_reaches_the_model(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.bin", [1] * 40 + [64] + [1] * 40)
    stream = SequentialStream(Shards([tmp_path / "a.bin"], vocab_size=64), 16, 4, 1)
    stream.batch(0)
    with pytest.raises(UserError, match="token id 64, outside the vocabulary of 64"):
        stream.batch(2)
