"""Windows of the protocols: what each target sees, who scores it, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.ladder import Ladder
from golf.evaluation.ledger import Ledger
from golf.evaluation.protocol import NoEvaluation, describe_evaluator
from golf.evaluation.sliding import Sliding
from golf.evaluation.split import validation_tokens
from golf.evaluation.windows import derived_batch_tokens, rank_share, window_batches


def ledger_of(evaluator, num_tokens):
    ledger = Ledger(num_tokens - 1, evaluator.rescoring)
    for window in evaluator.windows(num_tokens):
        assert 0 <= window.first_scored < window.length <= evaluator.seq_len
        assert window.start + window.length <= num_tokens - 1
        ledger.record(window.start + 1 + window.first_scored, np.zeros(window.length - window.first_scored))
    return ledger


@settings(max_examples=300, deadline=None)
@given(targets=st.integers(1, 400), length=st.integers(1, 70), data=st.data())
def test_every_target_exactly_once(targets, length, data):
    stride = data.draw(st.integers(1, length))
    for evaluator in (Contiguous(length), Sliding(length, stride)):
        coverage = ledger_of(evaluator, targets + 1).coverage()
        assert coverage.complete
        assert coverage.scored == targets


@settings(max_examples=100, deadline=None)
@given(targets=st.integers(1, 300), length=st.integers(1, 40), data=st.data())
def test_sliding_gives_every_later_target_enough_context(targets, length, data):
    stride = data.draw(st.integers(1, length))
    for window in list(Sliding(length, stride).windows(targets + 1))[1:]:
        assert window.first_scored >= length - stride
        assert window.length - window.first_scored <= stride


def test_published_tails():
    rescored = ledger_of(Sliding(32, 8, "rescored"), 101)
    assert rescored.times_N.sum() == 124
    assert rescored.coverage().scored_twice == 8
    assert rescored.coverage().never_scored == 0
    dropped = ledger_of(Sliding(32, 8, "dropped"), 101)
    assert (np.flatnonzero(dropped.times_N == 0) + 1).tolist() == [97, 98, 99, 100]


@pytest.mark.parametrize(("head", "unscored"), [("last_stride", (0, 24)), ("gap", (32, 48))])
def test_published_heads(head, unscored):
    """As on 1,024 and 2,048 tokens of 19 March: T - s targets at the start, or T - 2 s behind the first window."""
    evaluator = Sliding(32, 8, head=head)
    ledger = ledger_of(evaluator, 201)
    assert np.flatnonzero(ledger.times_N == 0).tolist() == list(range(*unscored))
    assert ledger.times_N.max() == 1
    assert list(evaluator.evaluators(32)) == [f"sliding_{head}"]


def test_published_variants_say_what_they_do():
    assert describe_evaluator(Sliding(1024, 64)) == "sliding seq_len=1024 stride=64"
    variants = {
        Sliding(1024, 64, "rescored"): "as published: the last 64 targets are scored about 16 times",
        Sliding(1024, 64, "dropped"): "as published: the end of the split is not scored",
        Sliding(2048, 64, head="gap"): "as published: 1920 targets behind the first window are not scored",
    }
    for evaluator, text in variants.items():
        sizes = f"seq_len={evaluator.seq_len} stride=64"
        assert describe_evaluator(evaluator) == f"{evaluator.name} {sizes} ({text})"


@settings(max_examples=100, deadline=None)
@given(targets=st.integers(1, 300), length=st.integers(1, 40), world=st.integers(1, 9), batch=st.integers(1, 200))
def test_ranks_and_batches_partition_the_windows(targets, length, world, batch):
    evaluator = Sliding(length, max(1, length // 3))
    everything = list(evaluator.windows(targets + 1))
    batches = [b for rank in range(world) for b in window_batches(evaluator, targets + 1, batch, rank, world)]
    assert [w for b in batches for w in b] == everything
    for b in batches:
        assert len({(w.length, w.first_scored) for w in b}) == 1
        assert len(b) == 1 or len(b) * b[0].length <= batch
    sizes = [len(rank_share(everything, rank, world)) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


def test_truncation_and_limits():
    tokens = np.zeros(1000, np.uint16)
    assert len(validation_tokens(tokens, 64)) == 961
    assert len(validation_tokens(np.zeros(1025, np.uint16), 256)) == 1025
    assert len(validation_tokens(tokens, 64, max_tokens=200)) == 193
    with pytest.raises(UserError, match=r"shorter than one window.*eval\.seq_len="):
        validation_tokens(np.zeros(64, np.uint16), 64)
    with pytest.raises(UserError, match=r"eval\.max_tokens=63.*type eval\.max_tokens=64"):
        validation_tokens(tokens, 64, max_tokens=63)


def test_refused_settings():
    with pytest.raises(UserError, match=r"eval\.stride=65"):
        Sliding(64, 65)
    with pytest.raises(UserError, match=r"eval\.stride=0"):
        Sliding(64, 0)
    with pytest.raises(UserError, match="exact, rescored, rescored_whole, dropped"):
        Sliding(64, 8, tail="padded")
    with pytest.raises(UserError, match=r"eval\.seq_len=-1"):
        Contiguous(-1)
    with pytest.raises(UserError, match=r"eval\.stride=64 with a window of 32"):
        Ladder(stride=64).evaluators(32)


def test_plans_take_the_training_length():
    evaluators = Ladder(stride=16).evaluators(128)
    assert list(evaluators) == ["contiguous", "sliding"]
    assert all(evaluator.seq_len == 128 for evaluator in evaluators.values())
    assert Sliding(seq_len=32, stride=16).evaluators(128)["sliding"].seq_len == 32
    assert list(Sliding(tail="rescored").evaluators(128)) == ["sliding_rescored"]
    assert NoEvaluation().evaluators(128) == {}


def test_batch_size_is_derived_from_the_logits():
    assert derived_batch_tokens("cpu", 1024) == 16_384
    assert derived_batch_tokens("cpu", 8192) == 2048
    assert derived_batch_tokens("cuda", 1024) == 65_536
    assert derived_batch_tokens("cuda", 8192) == 16_384
    assert derived_batch_tokens("cpu", 1 << 30) == 1
