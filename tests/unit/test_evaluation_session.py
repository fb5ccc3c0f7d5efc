"""Sessions: the order of scoring and learning, documents, the clock, and what is written down."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import golf.evaluation.scorer as scorer
from golf.data.bytes import uniform_byte_table
from golf.errors import LimitExceeded, UserError
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.fingerprint import state_checksum, state_sha256
from golf.evaluation.ledger import Ledger, LedgerError
from golf.evaluation.packed import Packed
from golf.evaluation.phases import EvaluationClock
from golf.evaluation.protocol import evaluate
from golf.evaluation.session import ScoringSession
from golf.evaluation.sliding import Sliding
from golf.evaluation.windows import Window, padded_width

VOCAB = 30


class Mean(nn.Module):
    """A causal model that depends on everything before, and on nothing after."""

    vocab_size = VOCAB

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = nn.Parameter(torch.randn(VOCAB, 8, generator=generator))

    def forward(self, ids_BT, targets_BT, reduction="mean"):
        places = torch.arange(1, ids_BT.shape[1] + 1)[None, :, None]
        x_BTD = (self.table[ids_BT].cumsum(1) / places).tanh()
        return -torch.log_softmax(x_BTD @ self.table.T, -1).gather(-1, targets_BT[..., None])[..., 0]


@pytest.fixture
def tokens():
    stream = np.random.default_rng(1).integers(2, VOCAB, 300).astype(np.uint16)
    stream[[0, 17, 18, 90, 200, 299]] = 1
    return stream


def session_of(tokens, **options):
    return ScoringSession(Mean().eval(), tokens, bos_id=1, **options)


def test_nothing_is_learned_before_it_is_scored(tokens):
    session = session_of(tokens)
    with pytest.raises(LedgerError, match="target 1 has no score yet"):
        session.scored_tokens(0, 9)
    session.score([[Window(0, 8, 0)]])
    assert session.scored_tokens(0, 9).tolist() == tokens[:9].tolist()
    with pytest.raises(LedgerError, match="target 9 has no score yet"):
        session.scored_tokens(0, 10)
    with pytest.raises(LedgerError):
        session.scored_tokens(290, 30)  # beyond the stream


def test_scores_are_in_order_within_a_segment():
    ledger = Ledger(10)
    ledger.record(4, np.ones(2))
    with pytest.raises(LedgerError, match="target 2 comes after target 5"):
        ledger.record(2, np.ones(1))
    apart = Ledger(10, segments=[1, 4, 8])
    apart.record(8, np.ones(1))
    apart.record(2, np.ones(1))
    apart.record(4, np.ones(3))
    with pytest.raises(LedgerError, match="in order"):
        apart.record(1, np.ones(1))


def test_what_other_ranks_scored_counts():
    mine, other = Ledger(6), Ledger(6)
    mine.record(1, np.ones(3))
    other.record(4, np.ones(3))
    with pytest.raises(LedgerError):
        mine.require_scored(1, 6)
    mine.share_coverage(lambda tensor: tensor + torch.from_numpy((other.times_N > 0).astype(np.int32)))
    mine.require_scored(1, 6)


def test_documents_hold_every_target_once(tokens):
    spans = session_of(tokens).documents()
    assert [span.start for span in spans] == [0, 17, 18, 90, 200]
    assert [span.length for span in spans] == [18, 2, 73, 111, 100]
    assert sum(span.length - 1 for span in spans) == 299
    with pytest.raises(UserError, match="no BOS"):
        ScoringSession(Mean(), tokens).documents()


@pytest.mark.parametrize(("length", "stride"), [(32, None), (32, 8), (200, 200), (16, 1)])
def test_document_evaluation_equals_a_loop_over_documents(tokens, length, stride):
    model, table = Mean().eval(), uniform_byte_table(VOCAB)
    nats, step = 0.0, stride or length
    starts = [0, 17, 18, 90, 200, 299]
    for begin, end in itertools.pairwise(starts):
        document = tokens[begin : end + 1].astype(np.int64)
        for target in range(1, len(document)):
            window_end = min(math.ceil(target / step) * step, len(document) - 1)
            first = max(0, window_end - length)
            ids, goals = (
                torch.tensor(document[first:target])[None],
                torch.tensor(document[first + 1 : target + 1])[None],
            )
            with torch.no_grad():
                nats += float(model(ids, goals)[0, -1])
    for world in (1, 3):
        plan = DocumentIsolated(length, stride).evaluators(length)["document"]
        parts = [evaluate(model, tokens, table, plan, "cpu", 256, r, world, bos_id=1) for r in range(world)]
        for part in parts[1:]:
            parts[0].ledger.merge(part.ledger)
        assert parts[0].ledger.coverage().complete
        assert parts[0].ledger.nats_N.sum() == pytest.approx(nats, abs=1e-4)


def test_world_size_does_not_change_a_bit(tokens):
    model, table = Mean(), uniform_byte_table(VOCAB)
    for evaluator in (Sliding(32, 8), DocumentIsolated(32, 8)):
        whole = evaluate(model, tokens, table, evaluator, "cpu", 128, bos_id=1)
        for world in (2, 5):
            parts = [evaluate(model, tokens, table, evaluator, "cpu", 128, r, world, bos_id=1) for r in range(world)]
            for part in parts[1:]:
                parts[0].ledger.merge(part.ledger)
            assert parts[0].ledger.score(np.ones(299, np.int64)).nats_sum == whole.score.nats_sum


def test_packed_rows_cover_the_stream(tokens):
    assert [w.length for w in Packed(16, 64).windows(300)] == [64, 64, 64, 64, 43]
    assert [w.length for w in Packed(16, 64, "dropped").windows(300)] == [64] * 4
    assert Packed().evaluators(32)["packed"].row_tokens == 512
    with pytest.raises(UserError, match=r"eval\.tail='rescored'"):
        Packed(tail="rescored")


def test_widths_are_few_and_depend_on_the_window_alone():
    assert [padded_width(n, 100) for n in (1, 16, 17, 40, 64, 65, 100)] == [16, 16, 32, 64, 64, 100, 100]
    assert padded_width(20, 8) == 20


def test_the_clock_counts_phases_exclusively_and_stops():
    now = iter([0.0, 10.0, 13.0, 14.0, 14.0, 99.0])
    clock = EvaluationClock(now=lambda: next(now))
    with clock.phase("score"), clock.phase("adapt"):
        pass
    assert clock.seconds == {"load": 0.0, "warm-up": 0.0, "score": 11.0, "adapt": 3.0}
    assert clock.read() == 14.0
    with pytest.raises(ValueError, match="allowed are load, warm-up, score, adapt"), clock.phase("train"):
        pass
    clock.limit_seconds = 1000.0
    clock.check(0.2)
    assert clock.predicted_seconds == 70.0
    clock.check(0.005)  # 2800 s by this pace, and too early to say
    clock.limit_seconds = 100.0
    clock.check(0.2)
    assert clock.eta() == "20%, about 56 s left (about 70 s in all, limit 100 s)"
    with pytest.raises(LimitExceeded, match="14 s for 5% of the work, about 280 s for all"):
        clock.check(0.05)  # a tenth of the limit is used
    clock.seconds["warm-up"], clock.seconds["score"] = 10.0, 1.0
    clock.check(0.05)  # compiling happens once: 90 s in all
    assert clock.predicted_seconds == 90.0
    clock.seconds["warm-up"], clock.seconds["score"] = 0.0, 11.0
    with pytest.raises(LimitExceeded, match=r"eval\.limit_seconds=100.*type eval\.limit_seconds=0"):
        clock.check(0.11)
    clock.limit_seconds = 13.0
    with pytest.raises(LimitExceeded):
        clock.check(0.99)


def test_learning_ends_before_scoring_is_refused():
    clock = EvaluationClock(100.0, now=lambda: 0.0, over_limit="shorten")
    clock.seconds["score"], clock.seconds["adapt"] = 4.0, 5.0
    assert clock.time_to_learn(0.01)  # 4 s for a hundredth: too early to say
    clock.seconds["score"] = 12.0
    assert not clock.time_to_learn(0.1)  # 12 s for a tenth: 125 s without learning
    clock.check(0.1)  # and not refused yet: what learns is slower than what is to come
    clock.seconds["score"] = 42.0
    with pytest.raises(LimitExceeded, match="47 s for 30% of the work, about 145 s for all"):
        clock.check(0.3)
    clock.seconds["score"], clock.seconds["adapt"] = 10.0, 0.0
    assert clock.time_to_learn(0.2)
    assert clock.time_to_learn(0.2, tokens=0.2)  # 50 s without learning, 30 s more for a fifth of the tokens
    assert not clock.time_to_learn(0.2, tokens=0.4)


@pytest.mark.parametrize("make", [Contiguous, lambda size, **limit: Sliding(size, 8, **limit), DocumentIsolated])
def test_a_limit_ends_an_evaluation(make, tokens):
    def scored(limit_seconds):
        (evaluator,) = make(32, limit_seconds=limit_seconds).evaluators(32).values()
        return evaluate(Mean(), tokens, uniform_byte_table(VOCAB), evaluator, bos_id=1)

    assert scored(1e9).coverage.scored == scored(None).coverage.scored == 299
    with pytest.raises(LimitExceeded, match=r"eval\.limit_seconds=1e-09: .* about .* s for all"):
        scored(1e-9)


def test_validation_during_training_is_what_it_is_called():
    from golf.training.module import GolfModule

    said = []

    def protocol(plan):
        session = SimpleNamespace(evaluation=plan, stream=SimpleNamespace(seq_len=32), say=said.append, net=Mean())
        module = GolfModule(session)
        name, evaluator = module.validation_protocol()
        assert module.validation_protocol()[0] == name
        return name, type(evaluator)

    assert protocol(Sliding(0, 8)) == ("sliding", Sliding)
    assert said == []
    assert protocol(Packed()) == protocol(DocumentIsolated()) == ("contiguous", Contiguous)
    assert said[0] == "validation during training: contiguous blocks of 32 tokens (packed scores at the end)"
    assert len(said) == 2


def test_compiling_that_fails_is_said_and_done_without(tokens, monkeypatch):
    class Compiles(Mean):
        phase, quantises = 0, staticmethod(bool)

        def compiled_losses(self):
            calls.append("compiled")
            return self.broken

        def broken(self, *arguments):
            calls.append("called")
            raise RuntimeError("no compiler here\nsecond line")

    calls = []
    monkeypatch.setattr(scorer, "COMPILE_FLOPS", {"cpu": 0.0})
    plain = evaluate(Mean(), tokens, uniform_byte_table(VOCAB), Sliding(32, 8))
    result = evaluate(Compiles(), tokens, uniform_byte_table(VOCAB), Sliding(32, 8), compiled=True)
    assert calls == ["compiled", "called"]
    assert result.record["compile_error"] == "RuntimeError: no compiler here"
    assert result.record["compiled_shapes"] == []
    assert (result.ledger.nats_N == plain.ledger.nats_N).all()


def test_fingerprints_see_every_change():
    model = Mean()
    first = (state_sha256(model.named_parameters()), state_checksum(model.named_parameters()))
    assert first == (state_sha256(model.named_parameters()), state_checksum(model.named_parameters()))
    with torch.no_grad():
        model.table[3, 2] += 1e-6
    assert state_sha256(model.named_parameters()) != first[0]
    assert state_checksum(model.named_parameters()) != first[1]


def test_the_record_says_what_happened(tokens):
    result = evaluate(Mean(), tokens, uniform_byte_table(VOCAB), Sliding(32, 8))
    record = result.as_dict()["record"]
    assert record["updates"] == 0
    assert record["states"][0]["checksum"] == record["states"][1]["checksum"]
    assert record["read"] == {"validation_targets_scored": 299, "validation_targets_learned": 0}
    assert record["model_sha256"] == state_sha256(Mean().state_dict().items())
    assert set(record["seconds"]) == {"load", "warm-up", "score", "adapt"}
    assert sum(record["seconds"].values()) == pytest.approx(result.seconds, abs=1e-3)
