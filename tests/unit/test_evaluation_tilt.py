"""Hints come from the past only, and a tilted distribution still sums to one."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from golf.data.bytes import ByteTable, uniform_byte_table
from golf.errors import UserError
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.ledger import LedgerError
from golf.evaluation.protocol import evaluate, evaluate_plan
from golf.evaluation.tilt import NO_HINT, FollowerCounts, NgramHints, tilted_nll
from golf.evaluation.tilted import NgramTilt, Tilted, TiltingHints
from golf.ttt.lora import LoraTtt
from golf.ttt.sgd import SgdTtt

VOCAB = 12


def builder(**options):
    word_start = np.zeros(VOCAB, bool)
    word_start[4:9] = True
    boundary = np.zeros(VOCAB, bool)
    boundary[1] = True
    return NgramHints(word_start, boundary, within_beta=0.9, word_beta=0.5, **options)


@pytest.fixture
def stream():
    rng = np.random.default_rng(0)
    phrase = rng.integers(2, VOCAB, 40)
    parts = [np.concatenate([[1], phrase, rng.integers(2, VOCAB, 10)]) for _ in range(6)]
    return np.concatenate(parts).tolist()


def test_a_hint_depends_on_nothing_behind_it(stream):
    hints, betas = builder().hints(stream)
    assert (hints >= 0).sum() > 100
    assert (betas[hints == NO_HINT] == 0).all()
    for place in (60, 150, 220):
        other = stream[:place] + [2 + (token + 3) % (VOCAB - 2) for token in stream[place:]]
        again = builder().hints(other)
        np.testing.assert_array_equal(hints[: place + 1], again[0][: place + 1])
        np.testing.assert_array_equal(betas[: place + 1], again[1][: place + 1])


def test_repeated_phrases_are_hinted(stream):
    hints, betas = builder().hints(stream)
    last = slice(5 * 51 + 20, 5 * 51 + 41)
    assert (hints[last] == stream[last]).all()
    assert betas[last].max() == pytest.approx(2.1)


def test_counts_prefer_the_most_frequent_follower():
    counts = FollowerCounts()
    for token in (3, 5, 5, 3, 3):
        counts.add("context", token)
    assert counts.lookup("context", 0.5, 3) == (3, 0.6)
    assert counts.lookup("context", 0.7, 3) == (NO_HINT, 0.0)
    assert counts.lookup("context", 0.5, 6) == (NO_HINT, 0.0)
    assert counts.lookup("other", 0.0, 0) == (NO_HINT, 0.0)


def test_tilted_probabilities_sum_to_one():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal(VOCAB)
    log_p = logits - np.log(np.exp(logits).sum())
    everything = np.arange(VOCAB)
    for hint, beta in ((4, 2.0), (0, 0.5), (NO_HINT, 0.0)):
        ones = np.full(VOCAB, hint)
        nll = tilted_nll(-log_p, np.full(VOCAB, log_p[max(hint, 0)]), everything, ones, np.full(VOCAB, beta))
        assert np.exp(-nll).sum() == pytest.approx(1.0, abs=1e-12)
        if hint == NO_HINT:
            np.testing.assert_array_equal(nll, -log_p)
        else:
            assert nll[hint] < -log_p[hint]


# -- as an evaluation --------------------------------------------------------------------------------------------------
class Unigram(nn.Module):
    """Every position predicts with the same logits."""

    vocab_size = VOCAB

    def __init__(self):
        super().__init__()
        self.z = nn.Parameter(torch.randn(VOCAB, generator=torch.Generator().manual_seed(1)))

    def forward(self, ids_BT, targets_BT=None, reduction="none"):
        logits_BTV = self.z.expand(*ids_BT.shape, -1)
        if targets_BT is None:
            return logits_BTV
        return -logits_BTV.log_softmax(-1).gather(-1, targets_BT[..., None])[..., 0]


def tilted(stream, **options):
    table = ByteTable(np.ones(VOCAB, np.int16), np.arange(VOCAB) % 9 >= 4, np.arange(VOCAB) == 1)
    tokens = np.array(stream, np.uint16)
    results = evaluate_plan(
        Unigram(), tokens, table, Tilted(34, 8, batch_tokens=100, tilt=NgramTilt(**options)), 34, bos_id=1
    )
    return results["sliding"], results["tilted"], table, tokens


def test_an_evaluation_scores_what_the_formula_says(stream):
    plain, found, table, tokens = tilted(stream, within_beta=0.9, word_beta=0.5)
    counts = NgramHints(table.leading_space, table.boundary, within_beta=0.9, word_beta=0.5)
    tokens = tokens[: plain.score.targets + 1]
    hints, betas = counts.hints(tokens.tolist())
    log_p = Unigram().z.detach().double().log_softmax(-1).numpy()
    expected = tilted_nll(plain.ledger.nats_N, log_p[hints[1:]], tokens[1:], hints[1:], betas[1:])
    assert found.coverage.complete
    np.testing.assert_allclose(found.ledger.nats_N, expected, atol=1e-6)
    assert found.bpb < plain.bpb


def test_without_strength_it_is_the_sliding_score(stream):
    plain, found, *_ = tilted(stream, base_beta=0.0, agree_bonus=0.0)
    np.testing.assert_allclose(found.ledger.nats_N, plain.ledger.nats_N, atol=1e-6)


def test_ranks_see_the_same_hints(stream):
    tokens, table = np.array(stream, np.uint16), uniform_byte_table(VOCAB)
    evaluator = Tilted(34, 8).evaluators(34)["tilted"]
    whole = evaluate(Unigram(), tokens, table, evaluator, "cpu", 100)
    parts = [evaluate(Unigram(), tokens, table, evaluator, "cpu", 100, rank, 3).ledger for rank in range(3)]
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    np.testing.assert_array_equal(parts[0].nats_N, whole.ledger.nats_N)


def test_a_distribution_with_another_mass_is_refused(stream, monkeypatch):
    wrong = TiltingHints.change
    monkeypatch.setattr(TiltingHints, "change", lambda self, log_p, hints: wrong(self, log_p, hints) + 0.01)
    with pytest.raises(LedgerError, match=r"probabilities at target 1 add up to 1\.01005.*normalised"):
        tilted(stream)
    monkeypatch.setattr(TiltingHints, "change", lambda self, log_p, hints: log_p * float("nan"))
    with pytest.raises(LedgerError, match="add up to nan"):
        tilted(stream)


# -- in test-time training ---------------------------------------------------------------------------------------------
class LearningUnigram(Unigram):
    """`Unigram` as test-time training wants it."""

    roles: ClassVar = {"z": "table"}


def learning(stream, rate, tilt, **options):
    tokens, table = np.array(stream, np.uint16), uniform_byte_table(VOCAB)
    method = SgdTtt(chunk_tokens=68, learning_rate=rate, epochs=1)
    evaluators = Adaptive(34, 8, ttt=method, batch_tokens=100, tilt=tilt).evaluators(34)
    (evaluator,) = evaluators.values()
    return evaluator.name, evaluate(LearningUnigram(), tokens, table, evaluator, "cpu", 100, **options)


def test_a_tilt_changes_scores_and_not_what_is_learned(stream):
    """The tilted scores of a learning network: the formula on what it scores without the tilt."""
    name, plain = learning(stream, 0.5, None)
    tilted_name, found = learning(stream, 0.5, NgramTilt())
    assert (name, tilted_name) == ("ttt", "ttt_tilted")
    assert found.record["updates"] == plain.record["updates"] > 0
    targets = np.array(stream[1 : plain.score.targets + 1])
    table = uniform_byte_table(VOCAB)
    counts = NgramHints(table.leading_space, table.boundary)
    hints, betas = counts.hints(stream[: len(targets) + 1])
    hit = hints[1:] == targets
    log_p = -plain.ledger.nats_N[hit]
    expected = -log_p + np.log1p(np.exp(log_p) * np.expm1(betas[1:][hit])) - betas[1:][hit]
    assert hit.sum() > 50
    np.testing.assert_allclose(found.ledger.nats_N[hit], expected, atol=1e-6)
    without = hints[1:] == NO_HINT
    np.testing.assert_allclose(found.ledger.nats_N[without], plain.ledger.nats_N[without], atol=1e-6)


def test_a_tilt_goes_along_the_stream_once(stream):
    with pytest.raises(UserError, match=r"hints follow the stream once, and LoraTtt.*type ttt=sgd"):
        Adaptive(34, 8, ttt=LoraTtt(), tilt=NgramTilt())
    with pytest.raises(UserError, match=r"eval\.tail=rescored does not; type ttt=sgd eval\.tail=exact"):
        Adaptive(34, 8, "rescored", SgdTtt(), tilt=NgramTilt())


def test_a_target_that_was_shown_is_not_scored(stream):
    class Backwards(Tilted):
        def run(self, session):
            batches = list(session.batches(self.windows(session.num_targets + 1)))[::-1]
            session.score_distributions(batches, TiltingHints(None, VOCAB, self.tilt.strengths))

    tokens, table = np.array(stream, np.uint16), uniform_byte_table(VOCAB)
    with pytest.raises(LedgerError, match="is scored after its token was shown"):
        evaluate(Unigram(), tokens, table, Backwards(34, 8), "cpu", 100)
