"""Parts of a split and tables of where the bits go, against sums made target by target."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from golf.data.bytes import ByteTable, uniform_byte_table
from golf.errors import UserError
from golf.evaluation.breakdown import Breakdown
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.protocol import evaluate, evaluate_plan
from golf.evaluation.sliding import Sliding
from golf.evaluation.split import bytes_between, check_context, count_target_bytes, end_of_documents, split_part

VOCAB, BOS = 40, 1
STARTS = [0, 30, 31, 90, 200, 260]


class ByTarget(nn.Module):
    """The loss of a target is its id, over 10."""

    vocab_size = VOCAB

    def forward(self, ids_BT, targets_BT, reduction="none"):
        return targets_BT.double() / 10


@pytest.fixture
def tokens():
    found = np.random.default_rng(1).integers(2, VOCAB, 301).astype(np.uint16)
    found[STARTS] = BOS
    return found


def random_table():
    rng = np.random.default_rng(2)
    return ByteTable(rng.integers(0, 9, VOCAB).astype(np.int16), rng.random(VOCAB) < 0.4, rng.random(VOCAB) < 0.1)


@pytest.mark.parametrize("evaluator", [Contiguous(64), Sliding(64, 16), DocumentIsolated(64, 16)])
def test_tables_are_the_sums_of_their_targets(evaluator, tokens):
    table = random_table()
    breakdown = Breakdown(tokens, table, 64, BOS, [("a.bin", 100), ("b.bin", 201)])
    result = evaluate(ByTarget(), tokens, table, evaluator, bos_id=BOS, batch_tokens=256, breakdown=breakdown)
    tables = breakdown.as_dict()
    sizes = count_target_bytes(tokens, table)
    expected = {name: defaultdict(lambda: np.zeros(3)) for name in ("document_position", "document_length", "shard")}
    for target in range(1, 301):
        start = max(s for s in STARTS if s < target)
        end = min([s for s in STARTS if s > start] or [300])
        sums = np.array([tokens[target] / 10, 1, sizes[target - 1]])
        expected["document_position"][1 << (target - start).bit_length() - 1] += sums
        expected["document_length"][1 << (end - start).bit_length() - 1] += sums
        expected["shard"]["a.bin" if target < 100 else "b.bin"] += sums
    for name, bins in expected.items():
        key = "name" if name == "shard" else "from"
        found = {row[key]: (row["nats"], row["targets"], row["bytes"]) for row in tables[name]}
        assert found.keys() == bins.keys()
        for value, sums in bins.items():
            assert found[value] == pytest.approx(tuple(sums), abs=1e-9)
    for rows in tables.values():
        assert sum(row["nats"] for row in rows) == pytest.approx(result.score.nats_sum, abs=1e-9)
        assert sum(row["bytes"] for row in rows) == result.score.bytes
    reads = [row["from"] for row in tables["context"]]
    assert reads[0] == 1
    assert reads[-1] <= 64
    if evaluator.name == "sliding":
        assert all(row["targets"] == 1 for row in tables["context"][:48])  # of the first window only


def test_ranks_share_a_breakdown(tokens):
    table, parts = uniform_byte_table(VOCAB, 2), []
    for rank in range(3):
        breakdown = Breakdown(tokens, table, 64)
        evaluate(ByTarget(), tokens, table, Sliding(64, 16), "cpu", 128, rank, 3, breakdown=breakdown)
        parts.append(breakdown.context.sums)
    whole = Breakdown(tokens, table, 64)
    evaluate(ByTarget(), tokens, table, Sliding(64, 16), "cpu", 128, breakdown=whole)
    np.testing.assert_allclose(sum(parts), whole.context.sums, atol=1e-9)


def test_bytes_of_a_part_are_those_of_the_whole(tokens):
    table = ByteTable(np.ones(VOCAB, np.int16), np.zeros(VOCAB, bool), np.zeros(VOCAB, bool), (5, 6, 7))
    tokens[100:103] = 5, 6, 7
    whole = count_target_bytes(tokens, table)
    for cut in (99, 100, 101, 102, 103):
        joined = [*bytes_between(tokens, table, 0, cut), *bytes_between(tokens, table, cut, 300)]
        assert joined == whole.tolist()


# -- the first documents of a split ------------------------------------------------------------------------------------
def test_documents_cut_the_split_where_the_next_one_begins(tokens):
    assert [end_of_documents(tokens, n, BOS) for n in (1, 2, 3, 4, 5, 6, 7)] == [30, 31, 90, 200, 260, 0, 0]
    for plan in (
        Contiguous(16, max_documents=3),
        Sliding(16, 4, max_documents=3),
        DocumentIsolated(16, max_documents=3),
    ):
        results = evaluate_plan(ByTarget(), tokens, uniform_byte_table(VOCAB, 2), plan, 16, bos_id=BOS)
        for result in results.values():
            assert result.score.targets == 90
            assert result.score.nats_sum == pytest.approx(tokens[1:91].sum() / 10)
            assert result.coverage.split_targets == 288
            assert not result.coverage.complete
            assert "PARTIAL (31.25%)" in str(result.coverage)


def test_all_documents_are_the_whole_split(tokens):
    part = split_part(tokens, Contiguous(16), Contiguous(16, max_documents=10_000), BOS)
    assert (len(part.tokens) - 1, part.split_targets) == (288, 288)


def test_refused_parts(tokens):
    with pytest.raises(UserError, match=r"no BOS.*type eval\.max_documents=0"):
        split_part(tokens, Contiguous(16), Contiguous(16, max_documents=3), None)
    with pytest.raises(UserError, match=r"eval\.max_documents=-1"):
        split_part(tokens, Contiguous(16), Contiguous(16, max_documents=-1), BOS)
    with pytest.raises(UserError, match="type one of them as 0"):
        split_part(tokens, Contiguous(16), Contiguous(16, max_tokens=32, max_documents=3), BOS)
    with pytest.raises(UserError, match="30 targets, shorter than one window of 64"):
        split_part(tokens, Contiguous(64), Contiguous(64, max_documents=1), BOS)


def test_windows_longer_than_a_model_can_read_are_refused(tokens):
    model = ByTarget()
    model.longest_context = 32
    with pytest.raises(UserError, match=r"eval\.seq_len=64.*at most 32 tokens: type eval\.seq_len=32"):
        evaluate(model, tokens, uniform_byte_table(VOCAB), Contiguous(64))
    check_context(model, 32)
    check_context(torch.nn.Linear(1, 1), 1 << 20)


def test_a_sidecar_of_another_split_is_refused(tokens):
    class Short:
        def bytes_of(self, begin, end):
            return np.ones(end - begin - 1, np.int32)

    class Negative:
        def bytes_of(self, begin, end):
            return np.full(end - begin, -1)

    for sidecar in (Short(), Negative()):
        with pytest.raises(UserError, match="belongs to another split"):
            evaluate(ByTarget(), tokens, sidecar, Contiguous(64))
