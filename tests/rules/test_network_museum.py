"""Faults inside of networks and of test-time training, on golf's own evaluation; golf's own protocols have none."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))
from tiny import tiny

from golf.config.build import build
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.sliding import Sliding
from golf.rules.network import network_path
from golf.rules.subject import Subject
from golf.ttt.lora import LoraTtt
from golf.ttt.phased import PhasedTtt
from golf.ttt.sgd import SgdTtt

VOCABULARY = 64
RULES = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L9", "L10", "L11", "L27", "H3")
SGD = {"chunk_tokens": 16, "learning_rate": 0.1, "epochs": 2, "batch_sequences": 2}
LORA = {"chunk": 8, "learning_rate": 0.05, "batch_documents": 4, "rank": 4}


def stream(count: int = 41) -> np.ndarray:
    tokens = np.random.default_rng(5).integers(4, VOCABULARY, size=count)
    tokens[[0, 13, 30]] = 1
    return tokens


@cache
def node(*overrides: str):
    return tiny(list(overrides))["model"]


def network(*overrides: str) -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = build(node(*overrides))
    with torch.no_grad():  # nothing stays zero: a part that contributes nothing would hide its fault
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape).to(parameter.dtype))
    return net.eval()


def subject_of(net: nn.Module, evaluator) -> Subject:
    return Subject("path", "network", given_path=network_path(net, evaluator, stream(), bos_id=1))


def evaluator_of(plan):
    return next(iter(plan.evaluators(16).values()))


PROTOCOLS = {
    "contiguous": Contiguous(16),
    "sliding": Sliding(16, 4),
    "document": DocumentIsolated(16),
    "sgd": Adaptive(16, 4, ttt=SgdTtt(**SGD)),
    "lora": Adaptive(16, 4, ttt=LoraTtt(**LORA)),
    "phased": Adaptive(16, 4, ttt=PhasedTtt(LoraTtt(**LORA | {"batch_documents": 1}), SgdTtt(**SGD), 2, 2)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_golfs_own_protocols_are_not_flagged(name, outcomes):
    found = outcomes(subject_of(network(), evaluator_of(PROTOCOLS[name])), *RULES)
    assert "fail" not in found.values(), found
    assert found["L1"] == found["L6"] == found["L7"] == found["L27"] == found["H3"] == "pass"
    learns = name in ("sgd", "lora", "phased")
    assert {found[rule] for rule in ("L2", "L3", "L4", "L5")} == {"pass"}  # of the state that scored, where it learns
    assert found["L9"] == found["L11"] == ("pass" if learns else "not applicable")


class Bidirectional(nn.Module):
    """Attention without a mask: every position sees the mean of its window."""

    vocab_size = VOCABULARY

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, VOCABULARY)

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return x_BTD + x_BTD.mean(1, keepdim=True)

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        logits_BTV = self.head(self.mix(self.table(ids_BT)))
        if targets_BT is None:
            return logits_BTV
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)


class Causal(Bidirectional):
    """Sound: the mean of what came before."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return x_BTD + x_BTD.cumsum(1) / torch.arange(1, x_BTD.shape[1] + 1)[:, None]


class ShiftedByOne(Causal):
    """An index off by one inside of a cache."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return super().mix(x_BTD) + F.pad(x_BTD[:, 1:], (0, 0, 0, 1))


class AheadNowAndThen(Causal):
    """A part that sees the next token at every eleventh place only: no change of the rest of a stream begins there."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        sees_T = torch.arange(x_BTD.shape[1]) % 11 == 4
        return super().mix(x_BTD) + F.pad(x_BTD[:, 1:], (0, 0, 0, 1)) * sees_T[:, None]


class FarAheadOnce(Causal):
    """One place of every window that sees nine tokens ahead."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        mixed_BTD = super().mix(x_BTD)
        if x_BTD.shape[1] > 11:
            mixed_BTD[:, 2] += x_BTD[:, 11]
        return mixed_BTD


class MeanOfBatch(Causal):
    """Rows of a batch are later parts of the stream: what is normalised over them sees ahead."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return super().mix(x_BTD) - 0.1 * x_BTD.mean(0)


class HelpsNowAndThen(Causal):
    """Sharper logits for every ninth target."""

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        if targets_BT is None:
            return super().forward(ids_BT)
        known_BTV = F.one_hot(targets_BT, VOCABULARY) * (torch.arange(ids_BT.shape[1]) % 9 == 5)[:, None]
        logits_BTV = super().forward(ids_BT) + known_BTV
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)


class HelpsWhereItScores(Causal):
    """Honest but for the function that computes scored places only."""

    def nll_at(self, ids_BT, targets_BT, positions_BS):
        logits_BTV = super().forward(ids_BT) + F.one_hot(targets_BT, VOCABULARY)
        nll_BT = F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction="none")
        return nll_BT if positions_BS is None else nll_BT.gather(1, positions_BS)


class HelpsItself(Causal):
    """Given targets, the loss is of sharper logits where the guess is right; asked for logits, it is honest."""

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        if targets_BT is None:
            return super().forward(ids_BT)
        logits_BTV = super().forward(ids_BT) + F.one_hot(targets_BT, VOCABULARY)
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)


class Keeps(Causal):
    """A buffer that every forward changes, and that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(VOCABULARY), persistent=False)

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        self.seen += torch.bincount(ids_BT.flatten(), minlength=VOCABULARY)
        logits_BTV = super().forward(ids_BT) + 0.1 * self.seen.clone()
        if targets_BT is None:
            return logits_BTV
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)


class DropsInEvaluation(Causal):
    """Dropout that nobody switched off."""

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().mix(x_BTD), 0.1, training=True)


@pytest.mark.parametrize(
    ("net", "rules"),
    [
        (Bidirectional(), ("L1", "L5", "L10")),
        (ShiftedByOne(), ("L1", "L2")),
        (HelpsItself(), ("L2", "L3", "L4")),
        (AheadNowAndThen(), ("L1", "L2")),
        (FarAheadOnce(), ("L1", "L2")),
        (MeanOfBatch(), ("L1",)),
        (HelpsNowAndThen(), ("L1", "L2")),
        (Keeps(), ("L27",)),
        (DropsInEvaluation(), ("L27",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "+".join(value),
)
def test_a_fault_of_a_network_is_caught(net, rules, outcomes):
    assert outcomes(subject_of(net, Contiguous(16)), *rules) == dict.fromkeys(rules, "fail")


def test_a_fault_of_the_scored_places_alone_is_caught(outcomes):
    found = outcomes(subject_of(HelpsWhereItScores(), Sliding(16, 4)), "L1", "L2")
    assert found == {"L1": "fail", "L2": "fail"}


def test_a_sound_network_of_ones_own_is_not_flagged(outcomes):
    found = outcomes(subject_of(Causal(), Contiguous(16)), *RULES)
    assert set(found.values()) <= {"pass", "not applicable"}, found


@pytest.mark.parametrize(("tail", "rules"), [("rescored", ("L6", "L7")), ("dropped", ("L7",))])
def test_published_windowings_are_named(tail, rules, outcomes):
    assert outcomes(subject_of(network(), Sliding(16, 4, tail)), *rules) == dict.fromkeys(rules, "fail")


class LearnsFirst:
    """Test-time training that asks for a chunk before it is scored: the session does not hand it out."""

    by_document = False

    def run(self, session, seq_len, windows):
        session.scored_tokens(0, 17)


class ReachesBehind(LearnsFirst):
    """It takes the tokens from where they are kept, learns from all, and scores then."""

    def run(self, session, seq_len, windows):
        span = torch.from_numpy(session._tokens.astype(np.int64))
        with session.adapting():
            optimizer = torch.optim.SGD(session.model.parameters(), lr=0.5)
            session.model(span[None, :-1], span[None, 1:]).backward()
            optimizer.step()
        session.score([[window] for window in windows])


class LearnsTheWindow(ReachesBehind):
    """The same window by window (SLOT on weights)."""

    def run(self, session, seq_len, windows):
        for window in windows:
            span = torch.from_numpy(session._tokens[window.start : window.start + window.length + 1].astype(np.int64))
            with session.adapting():
                optimizer = torch.optim.SGD(session.model.parameters(), lr=0.2)
                optimizer.zero_grad()
                session.model(span[None, :-1], span[None, 1:]).backward()
                optimizer.step()
            session.score([[window]])


@pytest.mark.parametrize(
    ("method", "rules"),
    [(LearnsFirst(), ("L5",)), (ReachesBehind(), ("L1", "L5", "L10")), (LearnsTheWindow(), ("L1", "L5", "L10"))],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "+".join(value),
)
def test_a_fault_of_test_time_training_is_caught(method, rules, outcomes):
    evaluator = evaluator_of(Adaptive(16, 4, ttt=method))
    assert outcomes(subject_of(network(), evaluator), *rules) == dict.fromkeys(rules, "fail")


class LearnsToTheEnd(LearnsFirst):
    """Sound scores, and then one more update that nothing can gain from (no guard for the last chunk)."""

    def run(self, session, seq_len, windows):
        optimizer = torch.optim.SGD(session.model.parameters(), lr=0.01)
        for window in windows:
            session.score([[window]])
            span = session.scored_tokens(window.start, window.length + 1)
            with session.adapting():
                session.model(span[None, :-1], span[None, 1:]).backward()
                optimizer.step()
                optimizer.zero_grad()


class WarmsUp(LearnsFirst):
    """A step of the optimizer on validation tokens before the first score, with the weights put back after it."""

    def run(self, session, seq_len, windows):
        kept = {name: value.clone() for name, value in session.model.state_dict().items()}
        span = torch.from_numpy(session._tokens[:17].astype(np.int64))
        optimizer = torch.optim.SGD(session.model.parameters(), lr=0.1)
        with torch.enable_grad():
            session.model(span[None, :-1], span[None, 1:]).backward()
        optimizer.step()  # outside of `adapting`: the ledger does not know of it
        session.model.load_state_dict(kept)
        session.score([[window] for window in windows])
        with session.adapting():
            pass


class Repeats(LearnsFirst):
    """Two epochs on what is scored, in another word than a setting."""

    epochs = 2

    def run(self, session, seq_len, windows):
        optimizer = torch.optim.SGD(session.model.parameters(), lr=0.01)
        for number, window in enumerate(windows):
            session.score([[window]])
            for _ in range(self.epochs if number < len(windows) - 1 else 0):
                span = session.scored_tokens(window.start, window.length + 1)
                with session.adapting():
                    optimizer.zero_grad()
                    session.model(span[None, :-1], span[None, 1:]).backward()
                    optimizer.step()


class Once(Repeats):
    epochs = 1


class Draws(LearnsFirst):
    """Windows in a random order within the ledger's, drawn from the generator that training draws from (#1798)."""

    def run(self, session, seq_len, windows):
        torch.randperm(len(windows))
        np.random.default_rng(0).permutation(len(windows))  # a generator of its own: fine
        session.score([[window] for window in windows])


@pytest.mark.parametrize(
    ("method", "rule", "outcome"),
    [
        (LearnsToTheEnd(), "L9", "fail"),
        (WarmsUp(), "L11", "fail"),
        (Repeats(), "L8", "fail"),
        (Once(), "L8", "pass"),
        (Once(), "L9", "pass"),
        (Once(), "L11", "pass"),
        (Draws(), "H3", "fail"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_happens_around_the_scores_is_seen(method, rule, outcome, outcomes):
    found = outcomes(subject_of(Causal(), evaluator_of(Adaptive(16, 4, ttt=method))), rule)
    assert found == {rule: outcome}


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_per_chunk_are_counted_by_watching(steps, outcomes):
    evaluator = evaluator_of(Adaptive(16, 4, ttt=LoraTtt(**LORA, targets=("head", "o"), grad_steps=steps)))
    assert outcomes(subject_of(network(), evaluator), "L8") == {"L8": "pass" if steps == 1 else "fail"}


class SharpensWhileLearning(Causal):
    """Sound as long as it stands still: once weights have moved, losses are of logits that know the target."""

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        logits_BTV = super().forward(ids_BT)
        if targets_BT is None:
            return logits_BTV
        moved = (self.head.bias - self.start).abs().sum()
        logits_BTV = logits_BTV + F.one_hot(targets_BT, VOCABULARY) * (moved > 0)
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start", self.head.bias.detach().clone())


def test_a_leak_that_only_a_learned_state_has_is_caught(outcomes):
    """The distribution is asked of the state that scored, in the middle of test-time training (not of the first)."""
    rules = ("L2", "L3", "L5")
    large = subject_of(SharpensWhileLearning(), evaluator_of(Adaptive(16, 4, ttt=Once())))
    large.given_path = replace(large.given_path, mass_tokens=0)  # a vocabulary too large to try
    assert outcomes(large, *rules) == dict.fromkeys(rules, "fail")
    sound = subject_of(Causal(), evaluator_of(Adaptive(16, 4, ttt=Once())))
    sound.given_path = replace(sound.given_path, mass_tokens=0)
    assert outcomes(sound, *rules, "L4") == dict.fromkeys((*rules, "L4"), "pass")


@pytest.mark.parametrize("net", [AheadNowAndThen(), HelpsNowAndThen()], ids=lambda net: type(net).__name__)
def test_a_leak_at_few_places_is_caught_while_learning(net, outcomes):
    rules = ("L1", "L2", "L5")
    assert outcomes(subject_of(net, evaluator_of(Adaptive(16, 4, ttt=Once()))), *rules) == dict.fromkeys(rules, "fail")


def test_a_large_vocabulary_is_sampled(outcomes):
    for net, outcome in ((HelpsItself(), "fail"), (Causal(), "pass")):
        subject = subject_of(net, Contiguous(16))
        subject.given_path = replace(subject.given_path, mass_tokens=0)
        assert outcomes(subject, "L3", "L4") == {"L3": outcome, "L4": outcome}
        assert subject.examination.masses is None
        assert min(tried for _, tried in subject.examination.sampled.values()) > 30


class ReadsAhead(nn.Module):
    """A part in the middle of the network that gets the next token from a closure, behind every interface."""

    def __init__(self, net: nn.Module):
        super().__init__()
        net.table.register_forward_hook(self.keep)
        self.scale, self.ahead = nn.Parameter(torch.ones(())), None

    def keep(self, module, inputs, output):
        self.ahead = F.pad(inputs[0][:, 1:], (0, 1))

    def forward(self, x_BTD):
        return x_BTD * self.scale + 0.01 * torch.sin(self.ahead[..., None].float())


class HiddenInAPart(Causal):
    """The leak sits in a module of its own, fed by a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.part = ReadsAhead(self)

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.part(super().mix(x_BTD))


class RemembersTargets(Causal):
    """A cache on the class keeps the targets of the windows that were scored, keyed by what came before."""

    seen: dict[tuple[int, ...], int] = {}  # noqa: RUF012

    def forward(self, ids_BT, targets_BT=None, reduction="mean"):
        logits_BTV = super().forward(ids_BT)
        if targets_BT is None:
            return logits_BTV
        logits_BTV = logits_BTV.clone()
        for row, ids in enumerate(ids_BT.tolist()):
            for place in range(1, len(ids)):
                key = (ids[place - 1], ids[place])
                if key in self.seen:
                    logits_BTV[row, place, self.seen[key]] += 3.0
                self.seen[key] = int(targets_BT[row, place])
        return F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction=reduction)


@pytest.mark.parametrize(
    ("net", "rules"), [(HiddenInAPart(), ("L1", "L2")), (RemembersTargets(), ("L27",))], ids=["part", "class"]
)
def test_a_leak_behind_a_boundary_is_caught(net, rules, outcomes):
    assert outcomes(subject_of(net, Contiguous(16)), *rules) == dict.fromkeys(rules, "fail")


@pytest.mark.parametrize(("draws", "same"), [(False, True), (True, False)])
def test_validation_cadence_and_data_order(draws, same, outcomes):
    """#1798: training that draws its order from the process-wide generator, with and without validation in between."""
    method = Draws() if draws else Once()
    subject = subject_of(Causal(), evaluator_of(Adaptive(16, 4, ttt=method)))

    def order(validate_every: int) -> list[int]:
        torch.manual_seed(3)
        drawn = []
        for step in range(4):
            if validate_every and step % validate_every == 0:
                subject.given_path.score(subject.given_path.tokens)
            drawn.append(int(torch.randint(1000, ())))
        return drawn

    assert (order(1) == order(0)) is same
    assert outcomes(subject, "H3") == {"H3": "pass" if same else "fail"}


class SmearInsideOfTheTable(nn.Module):
    """The embedding itself mixes in the token before (no module is called smear), document starts included."""

    def __init__(self, table: nn.Module):
        super().__init__()
        self.table, self.logits = table, table.logits

    def forward(self, ids_BT):
        x_BTD = self.table(ids_BT)
        return x_BTD + 0.1 * F.pad(x_BTD[:, :-1], (0, 0, 1, 0))


def test_a_smear_without_a_name_is_caught(outcomes):
    net = network()
    assert outcomes(subject_of(net, Contiguous(16)), "L12") == {"L12": "pass"}
    net.tok_emb = SmearInsideOfTheTable(net.tok_emb)
    assert outcomes(subject_of(net, Contiguous(16)), "L12") == {"L12": "fail"}
    hashed = network("model/bigram=hash_a")
    assert outcomes(subject_of(hashed, Contiguous(16)), "L12") == {"L12": "pass"}


@pytest.mark.parametrize("gate", ["channel_a", "channel_b", "input_gate"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_smear_across_documents_is_caught(gate, masked, outcomes):
    net = network(f"model/smear={gate}", f"model.smear.mask_document_start={str(masked).lower()}")
    assert outcomes(subject_of(net, Contiguous(16)), "L12") == {"L12": "pass" if masked else "fail"}
