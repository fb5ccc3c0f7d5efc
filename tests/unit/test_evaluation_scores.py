"""Scores against closed forms and against a naive per-token loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from golf.data.bytes import ByteTable, uniform_byte_table
from golf.data.synthetic import SyntheticSource
from golf.errors import UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.ladder import Ladder
from golf.evaluation.ledger import LedgerError
from golf.evaluation.protocol import evaluate, evaluate_plan
from golf.evaluation.scorer import score_windows
from golf.evaluation.sliding import Sliding
from golf.evaluation.windows import Window

VOCAB = 40


class Uniform(nn.Module):
    """Every token equally likely."""

    def forward(self, ids_BT, targets_BT, reduction="mean"):
        return torch.full(targets_BT.shape, math.log(VOCAB))


class Recurrent(nn.Module):
    """A tiny causal model whose loss depends on the whole context, with dropout so that the mode matters."""

    vocab_size = VOCAB

    def __init__(self, suffix=False):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = nn.Parameter(torch.randn(VOCAB, 16, generator=generator))
        self.head = nn.Parameter(torch.randn(VOCAB, 16, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.calls = []
        if suffix:
            self.nll_at = self.at

    def forward(self, ids_BT, targets_BT, reduction="mean"):
        assert reduction == "none"
        self.calls.append(tuple(ids_BT.shape))
        places = torch.arange(1, ids_BT.shape[1] + 1)[None, :, None]
        x_BTD = self.dropout((self.table[ids_BT].cumsum(1) / places).tanh())
        return -torch.log_softmax(x_BTD @ self.head.T, -1).gather(-1, targets_BT[..., None])[..., 0]

    def at(self, ids_BT, targets_BT, positions_BS):
        return self.forward(ids_BT, targets_BT, "none").gather(1, positions_BS)


@pytest.fixture
def tokens():
    return np.random.default_rng(1).integers(0, VOCAB, 301).astype(np.uint16)


def random_byte_table():
    rng = np.random.default_rng(2)
    base = rng.integers(0, 9, VOCAB).astype(np.int16)
    return ByteTable(base, rng.random(VOCAB) < 0.4, rng.random(VOCAB) < 0.1)


def naive_score(model, tokens, table, length, stride):
    """One target at a time: its loss with the context its window gives it."""
    nats, byte_sum, targets = 0.0, 0, len(tokens) - 1
    for target in range(1, targets + 1):
        overflow = max(0, target - length)
        start = -(-overflow // stride) * stride  # the first window that reaches the target
        ids = torch.tensor(tokens[start:target].astype(np.int64))[None]
        goals = torch.tensor(tokens[start + 1 : target + 1].astype(np.int64))[None]
        with torch.no_grad():
            nats += float(model.eval()(ids, goals, reduction="none")[0, -1])
        byte_sum += int(table.count(tokens[target - 1 : target], tokens[target : target + 1])[0])
    return nats, byte_sum


@pytest.mark.parametrize("evaluator", [Contiguous(64), Sliding(64, 16), Sliding(50, 7), Sliding(300, 1)])
def test_uniform_model(evaluator, tokens):
    table = uniform_byte_table(VOCAB, 3)
    result = evaluate(Uniform(), tokens, table, evaluator)
    assert result.score.targets == 300
    assert result.coverage.complete
    assert result.bpb == pytest.approx(math.log2(VOCAB) * 300 / (300 * 3), rel=1e-6)
    assert result.nats_per_token == pytest.approx(math.log(VOCAB), rel=1e-6)


@pytest.mark.parametrize(("length", "stride"), [(32, 32), (32, 8), (48, 7), (64, 1), (300, 64)])
@pytest.mark.parametrize("suffix", [False, True])
def test_sliding_equals_a_naive_loop(length, stride, suffix, tokens):
    model, table = Recurrent(suffix), random_byte_table()
    nats, byte_sum = naive_score(model, tokens, table, length, stride)
    result = evaluate(model, tokens, table, Sliding(length, stride), batch_tokens=5 * length)
    assert result.score.nats_sum == pytest.approx(nats, abs=1e-4)
    assert result.score.bytes == byte_sum
    assert result.protocol == f"sliding seq_len={length} stride={stride}"


@pytest.mark.parametrize("evaluator", [Contiguous(32), Sliding(32, 8), Sliding(32, 8, "rescored")])
def test_any_world_and_batch_size_gives_the_same_score(evaluator, tokens):
    model, table = Recurrent(), random_byte_table()
    whole = evaluate(model, tokens, table, evaluator, batch_tokens=1)
    for world in (2, 3, 8):
        parts = [evaluate(model, tokens, table, evaluator, batch_tokens=200, rank=r, world=world) for r in range(world)]
        total = sum((part.score for part in parts[1:]), parts[0].score)
        assert total.nats_sum == pytest.approx(whole.score.nats_sum, abs=1e-4)
        assert (total.targets, total.bytes) == (whole.score.targets, whole.score.bytes)
        for part in parts[1:]:
            parts[0].ledger.merge(part.ledger)
        assert parts[0].ledger.coverage() == whole.coverage


def test_evaluation_leaves_no_trace(tokens):
    model = Recurrent().train()
    state = torch.random.get_rng_state()
    seen = []
    evaluate(model, tokens, random_byte_table(), Contiguous(50), batch_tokens=100, progress=lambda *p: seen.append(p))
    assert model.training
    assert model.dropout.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert seen == [(100, 300), (200, 300), (300, 300)]
    assert all(parameter.grad is None for parameter in model.parameters())
    model.dropout.eval()  # a mixed state survives as it is
    evaluate(model, tokens, random_byte_table(), Contiguous(50))
    assert model.training
    assert not model.dropout.training


def test_mode_is_restored_after_an_error(tokens):
    class Broken(Uniform):
        def forward(self, ids_BT, targets_BT, reduction="mean"):
            return torch.full(targets_BT.shape, math.nan)

    model = Broken().train()
    with pytest.raises(LedgerError, match="target 1 has the loss nan"):
        evaluate(model, tokens, uniform_byte_table(VOCAB), Contiguous(50))
    assert model.training


def test_shapes_are_constant_but_for_first_and_last(tokens):
    model = Recurrent()
    evaluate(model, tokens, random_byte_table(), Sliding(32, 8), batch_tokens=128)
    assert set(model.calls) <= {(1, 32), (4, 32), (2, 32), (3, 32), (1, 28)}
    assert model.calls.count((4, 32)) >= len(model.calls) - 3


def test_score_windows_gives_first_target_and_losses(tokens):
    model = Recurrent().eval()
    windows = [Window(0, 20, 12), Window(8, 20, 12)]
    with torch.no_grad():
        scored = score_windows(model, tokens, windows, "cpu")
    assert [first for first, _ in scored] == [13, 21]
    assert all(nll.dtype == torch.float64 and nll.shape == (8,) for _, nll in scored)


def test_refusals(tokens):
    table = uniform_byte_table(VOCAB)
    with pytest.raises(UserError, match="shorter than one window of 301"):
        evaluate(Uniform(), tokens, table, Contiguous(301))
    with pytest.raises(UserError, match="another tokenizer"):
        evaluate(Recurrent(), np.full(100, VOCAB, np.uint16), uniform_byte_table(VOCAB + 1), Contiguous(32))
    with pytest.raises(UserError, match="scores nothing"):
        evaluate(Uniform(), tokens, table, Sliding(300, 8, "dropped"))


def test_plan_limits_are_reported_as_partial(tokens):
    results = evaluate_plan(Uniform(), tokens, uniform_byte_table(VOCAB), Ladder(stride=8, max_tokens=100), 32)
    assert list(results) == ["contiguous", "sliding"]
    for result in results.values():
        assert result.score.targets == 96
        assert result.coverage.split_targets == 288
        assert not result.coverage.complete
        assert "PARTIAL" in str(result.coverage)
        fields = {"nats_per_token", "bpb", "tokens", "bytes", "seconds", "protocol", "coverage", "record"}
        assert set(result.as_dict()) == fields


def test_oracle_reaches_the_closed_form():
    source = SyntheticSource(vocab_size=64, branches=4, document_tokens=50.0, bytes_per_token=2, source_seed=5)
    chain = source.chain()
    tokens = chain.sample(40_001, np.random.default_rng(6))
    table = uniform_byte_table(64, 2, special_ids=(0, 1, 2, 3))

    class Oracle(nn.Module):
        vocab_size = 64

        def forward(self, ids_BT, targets_BT, reduction="mean"):
            nll = chain.nll(ids_BT.flatten().numpy(), targets_BT.flatten().numpy())
            return torch.from_numpy(nll).view_as(targets_BT)

    results = evaluate_plan(Oracle(), tokens, table, Ladder(stride=128), 256)
    losses = results["contiguous"].ledger.nats_N
    standard_error = losses.std() / math.sqrt(len(losses)) / chain.nats_per_token() * source.expected_bpb()
    for result in results.values():
        assert abs(result.bpb - source.expected_bpb()) < 5 * standard_error
    # An order-1 chain needs one token of context: both protocols give the same losses.
    assert results["contiguous"].score == results["sliding"].score
