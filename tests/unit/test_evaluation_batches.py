"""Batches, ranks and compiled shapes: the same sums whatever the number of ranks, and no graph too many."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import golf.evaluation.scorer as scorer
from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.ledger import Ledger
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding
from golf.evaluation.windows import window_shape

VOCAB, BOS = 30, 1


class Positions(nn.Module):
    """Causal, with losses at wanted positions only; notes the shapes it is called with."""

    vocab_size = VOCAB

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(VOCAB, 8, generator=torch.Generator().manual_seed(3)))
        self.calls = []

    def forward(self, ids_BT, targets_BT, reduction="mean"):
        places = torch.arange(1, ids_BT.shape[1] + 1)[None, :, None]
        x_BTD = (self.table[ids_BT].cumsum(1) / places).tanh()
        return -torch.log_softmax(x_BTD @ self.table.T, -1).gather(-1, targets_BT[..., None])[..., 0]

    def nll_at(self, ids_BT, targets_BT, positions_BS):
        self.calls.append((ids_BT.shape[1], positions_BS.shape[1]))
        return self(ids_BT, targets_BT).gather(1, positions_BS)


def stream(targets, seed=1):
    tokens = np.random.default_rng(seed).integers(BOS, VOCAB, targets + 1).astype(np.uint16)
    tokens[0] = BOS
    return tokens


@settings(max_examples=25, deadline=None)
@given(
    targets=st.integers(40, 300),
    length=st.integers(2, 40),
    world=st.integers(2, 9),
    batch=st.integers(1, 200),
    kind=st.sampled_from([Contiguous, Sliding, DocumentIsolated]),
    data=st.data(),
)
def test_any_number_of_ranks_gives_the_same_sums(targets, length, world, batch, kind, data):
    stride = data.draw(st.integers(1, length))
    evaluator = Contiguous(length) if kind is Contiguous else kind(length, stride)
    model, tokens, table = Positions(), stream(targets), uniform_byte_table(VOCAB, 2)
    one = evaluate(model, tokens, table, evaluator, batch_tokens=batch, bos_id=BOS)
    parts = [
        evaluate(model, tokens, table, evaluator, "cpu", batch, rank, world, bos_id=BOS).ledger for rank in range(world)
    ]
    total = Ledger(targets)
    for part in parts:
        total.merge(part)
    assert total.coverage() == one.coverage
    assert one.coverage.complete
    assert float(total.nats_N.sum()) == pytest.approx(one.score.nats_sum, abs=1e-9)
    assert np.array_equal(total.nats_N, one.ledger.nats_N)


def test_documents_come_in_few_shapes():
    model, tokens = Positions(), stream(3000)
    evaluate(model, tokens, uniform_byte_table(VOCAB, 2), DocumentIsolated(64, 8), bos_id=BOS, batch_tokens=256)
    assert set(model.calls) <= {(16, 8), (32, 8), (64, 8)}


@settings(max_examples=100, deadline=None)
@given(length=st.integers(1, 500), first=st.integers(0, 499), longest=st.integers(1, 500), stride=st.integers(1, 500))
def test_a_padded_row_holds_the_window_and_its_scored_places(length, first, longest, stride):
    from golf.evaluation.windows import Window

    window = Window(0, min(length, longest), min(first, min(length, longest) - 1))
    scored = window.length - window.first_scored
    width, places = window_shape(window, longest, max(stride, scored))
    assert window.length <= width <= max(longest, window.length)
    assert scored <= places <= width


@pytest.fixture
def small_net():
    changes = ["experiment=smoke", "model.num_layers=2", "model.width=32", "model.num_heads=4", "model.num_kv_heads=2"]
    config = compose("train", changes)["model"] | {"vocab_size": 64, "compute_dtype": "float32"}
    torch.manual_seed(0)
    net = build(config).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def test_every_shape_is_traced_once_and_scores_the_same(small_net, monkeypatch):
    """Whole batches are one graph, and an incomplete one is padded to it; the lone first window stays eager."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counted = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counted))
    monkeypatch.setattr(scorer, "COMPILE_FLOPS", {"cpu": 2.0 * 5 * 32 * sum(p.numel() for p in small_net.parameters())})
    tokens = np.random.default_rng(1).integers(2, 64, 32 + 8 * 13 + 1).astype(np.uint16)
    table = uniform_byte_table(64, 2)
    found = [
        evaluate(small_net, tokens, table, Sliding(32, 8), "cpu", 4 * 32, compiled=compiled) for compiled in (1, 0)
    ]
    assert counted.frame_count == 1
    assert found[0].record["compiled_shapes"] == [[32, 8]]
    assert found[1].record["compiled_shapes"] == []
    np.testing.assert_allclose(found[0].ledger.nats_N, found[1].ledger.nats_N, atol=1e-5)
    assert math.isfinite(found[0].bpb)


def test_what_is_not_worth_it_is_not_compiled(small_net):
    tokens = np.random.default_rng(1).integers(2, 64, 200).astype(np.uint16)
    found = evaluate(small_net, tokens, uniform_byte_table(64, 2), Sliding(32, 8), compiled=True)
    assert found.record["compiled_shapes"] == []
