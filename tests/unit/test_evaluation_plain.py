"""The plain loop of exported files gives what `evaluate` gives: score, coverage, for any number of ranks."""

import math

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.bpb import Score
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.ladder import Ladder
from golf.evaluation.ledger import Coverage
from golf.evaluation.packed import Packed
from golf.evaluation.plain import is_plain, score_plainly
from golf.evaluation.protocol import evaluate
from golf.evaluation.scorer import COMPILE_FLOPS
from golf.evaluation.sliding import SLIDING_HEADS, SLIDING_TAILS, Sliding
from golf.evaluation.split import split_part
from golf.ttt.sgd import SgdTtt

VOCAB, LENGTH, STRIDE = 64, 16, 6
WINDOWS = {
    "contiguous": Contiguous(LENGTH),
    **{f"{tail} {head}": Sliding(LENGTH, STRIDE, tail, head=head) for tail in SLIDING_TAILS for head in SLIDING_HEADS},
}


@pytest.fixture(scope="module")
def net():
    config = compose("train", ["experiment=smoke", "model.num_layers=2", "model.width=32", "model.num_heads=4"])
    config["model"] |= {"vocab_size": VOCAB, "num_kv_heads": 2, "compute_dtype": "float32"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(config["model"])
        for parameter in net.parameters():  # projections that start at zero would hide what is behind them
            parameter.data += 0.05 * torch.randn_like(parameter)
    return net


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(1).integers(0, VOCAB, 507).astype(np.uint16)


def in_parts(net, part, evaluator, world, **options):
    """What `world` ranks find together: a first pass notes what each of them would send, a second one sums it."""
    sent = []
    for rank in range(world):
        mine = []
        score_plainly(
            net, part.tokens, TABLE, evaluator, rank=rank, world=world, sum_over_ranks=noting(mine), **options
        )
        sent.append(mine)
    sums = iter([sum(values) for values in zip(*sent)])
    return in_words(part, evaluator, net, world=world, sum_over_ranks=lambda _: next(sums), **options)


def in_words(part, evaluator, net, table=None, **options):
    """The sums of the plain loop as `evaluate` tells them."""
    nats, byte_sum, times_N = score_plainly(net, part.tokens, table or TABLE, evaluator, **options)
    coverage = Coverage(part.split_targets, int((times_N > 0).sum()), int((times_N > 1).sum()))
    return Score(nats, int(times_N.sum()), byte_sum), coverage


def noting(mine):
    def note(tensor):
        mine.append(tensor.clone())
        return tensor

    return note


TABLE = uniform_byte_table(VOCAB)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("name", WINDOWS)
def test_plain_score_is_that_of_evaluate(name, world, net, tokens):
    evaluator, part = WINDOWS[name], split_part(tokens, WINDOWS[name], Contiguous(max_tokens=400))
    whole = evaluate(net, part.tokens, TABLE, evaluator, batch_tokens=64, split_targets=part.split_targets)
    net.train()
    score, coverage = in_parts(net, part, evaluator, world, batch_tokens=64)
    assert net.training  # as it was
    assert (score.targets, score.bytes) == (whole.score.targets, whole.score.bytes)
    assert score.bpb == pytest.approx(whole.bpb, rel=1e-9)
    assert coverage == whole.coverage
    assert coverage.split_targets > coverage.scored  # a part of the split says so


def test_compiled_batches_are_padded_and_score_the_same(net, tokens, monkeypatch):
    shapes = []

    def compile_by_counting(function, **options):
        def run(ids_BT, *others):
            shapes.append(tuple(ids_BT.shape))
            return function(ids_BT, *others)

        return run

    monkeypatch.setattr(torch, "compile", compile_by_counting)
    score_plainly(net, tokens, TABLE, Contiguous(LENGTH), batch_tokens=64, compiled=True)
    assert shapes == []  # so little is not worth it, to `evaluate` neither: the same bits
    monkeypatch.setitem(COMPILE_FLOPS, "cpu", 0.0)
    evaluator = Sliding(LENGTH, STRIDE)
    part = split_part(tokens, evaluator, evaluator)
    score, _ = in_words(part, evaluator, net, batch_tokens=64, compiled=True)
    plain, _ = in_words(part, evaluator, net, batch_tokens=64)
    assert set(shapes) == {(4, LENGTH)}
    assert len(shapes) > 10
    assert score.bpb == pytest.approx(plain.bpb, rel=1e-7)  # another shape of the last batch


def test_protocols_that_go_their_own_way_are_not_plain(net):
    assert all(is_plain(evaluator, net) for evaluator in Ladder(LENGTH, STRIDE).evaluators(LENGTH).values())
    assert not is_plain(Adaptive(LENGTH, STRIDE, "exact", SgdTtt()), net)
    assert not is_plain(Packed(LENGTH), net)
    assert not is_plain(Contiguous(LENGTH), torch.nn.Linear(2, 2))


def test_targets_without_bytes_have_no_score(net, tokens):
    part = split_part(tokens, Contiguous(LENGTH), Contiguous(LENGTH))
    score, coverage = in_words(part, Contiguous(LENGTH), net, uniform_byte_table(VOCAB, 0))
    assert math.isnan(score.bpb)
    assert coverage.scored == score.targets > 0
