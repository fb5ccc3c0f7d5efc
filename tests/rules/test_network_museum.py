"""Faults inside of networks and of test-time training, on golf's own evaluation; golf's own protocols have none."""

from __future__ import annotations

import sys
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
RULES = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L10", "L27")
SGD = {"chunk_tokens": 16, "learning_rate": 0.1, "epochs": 2, "batch_sequences": 2}
LORA = {"chunk": 8, "learning_rate": 0.05, "batch_documents": 4, "rank": 4}


def stream(count: int = 41) -> np.ndarray:
    tokens = np.random.default_rng(5).integers(4, VOCABULARY, size=count)
    tokens[[0, 13, 30]] = 1
    return tokens


def network(*overrides: str) -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = build(tiny(list(overrides))["model"])
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
    "phased": Adaptive(16, 4, ttt=PhasedTtt(LoraTtt(**LORA), SgdTtt(**SGD), documents=2, phases=2)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_golfs_own_protocols_are_not_flagged(name, outcomes):
    found = outcomes(subject_of(network(), evaluator_of(PROTOCOLS[name])), *RULES)
    assert "fail" not in found.values(), found
    assert found["L1"] == found["L6"] == found["L7"] == found["L27"] == "pass"


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
        (Keeps(), ("L27",)),
        (DropsInEvaluation(), ("L27",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "+".join(value),
)
def test_a_fault_of_a_network_is_caught(net, rules, outcomes):
    assert outcomes(subject_of(net, Contiguous(16)), *rules) == dict.fromkeys(rules, "fail")


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


@pytest.mark.parametrize("gate", ["channel_a", "channel_b", "input_gate"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_smear_across_documents_is_caught(gate, masked, outcomes):
    net = network(f"model/smear={gate}", f"model.smear.mask_document_start={str(masked).lower()}")
    assert outcomes(subject_of(net, Contiguous(16)), "L12") == {"L12": "pass" if masked else "fail"}
