"""Faults of scoring: each is caught by the rule that is named for it, and no sound scorer is."""

from __future__ import annotations

import pytest
from museum import (
    BestOfTwo,
    Chunks,
    Dice,
    Halved,
    Improbable,
    KeyWithTarget,
    KeyWithTargetShown,
    LastEpoch,
    Mixture,
    NotANumber,
    Offset,
    Pairs,
    PeekingGate,
    PeekingGateHidden,
    Remembers,
    RemembersInFile,
    SeededByStream,
    Slot,
    SpreadBytes,
    Still,
    TailAgain,
    TailDropped,
    Temperature,
    TrainThenScore,
    TwoPasses,
    TwoPassesHidden,
    Unnormalised,
    UnnormalisedHidden,
    path_to,
)

from golf.rules.subject import Subject

SCORING = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L10", "L27")


def subject_of(scorer):
    return Subject("path", type(scorer).__name__, given_path=path_to(scorer))


@pytest.mark.parametrize("scorer", [Pairs(), Still(), Chunks(), Mixture()], ids=lambda scorer: type(scorer).__name__)
def test_sound_scorers_pass_every_rule_of_scoring(scorer, outcomes):
    found = outcomes(subject_of(scorer), *SCORING)
    assert set(found.values()) <= {"pass", "not applicable"}, found


@pytest.mark.parametrize(
    ("scorer", "rules"),
    [
        (KeyWithTarget(), ("L2", "L3")),
        (KeyWithTargetShown(), ("L1", "L2")),
        (PeekingGate(), ("L1", "L2")),
        (PeekingGateHidden(), ("L2",)),
        (Unnormalised(), ("L3", "L4")),
        (UnnormalisedHidden(), ("L3", "L4")),
        (Halved(), ("L3",)),
        (SpreadBytes(), ("L3", "L4")),
        (TrainThenScore(), ("L1", "L5", "L6")),
        (LastEpoch(), ("L1", "L5")),
        (TwoPasses(), ("L6",)),
        (TwoPassesHidden(), ("L1", "L5", "L6")),
        (BestOfTwo(), ("L3", "L6")),
        (Slot(), ("L1", "L10")),
        (Offset(1), ("L1",)),
        (Offset(3), ("L1",)),
        (Offset(17), ("L1",)),
        (SeededByStream(), ("L1",)),
        (Temperature(), ("L1", "L5")),
        (Remembers(), ("L27",)),
        (Dice(), ("L27",)),
        (TailAgain(), ("L6", "L7")),
        (TailDropped(), ("L7",)),
        (NotANumber(), ("L3", "L7")),
        (Improbable(), ("L3",)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "+".join(value),
)
def test_a_fault_is_caught_by_its_rule(scorer, rules, outcomes):
    found = outcomes(subject_of(scorer), *rules)
    assert found == dict.fromkeys(rules, "fail")


def test_a_score_that_a_file_improves_is_caught(tmp_path, outcomes):
    assert outcomes(subject_of(RemembersInFile(tmp_path / "kept.npy")), "L27") == {"L27": "fail"}


def test_what_cannot_be_compared_is_not_judged(outcomes):
    assert outcomes(subject_of(Dice()), "L1", "L5")["L1"] == "cannot tell"


def test_a_vocabulary_too_large_to_try_is_said_so(outcomes, monkeypatch):
    from golf.rules.examination import Examination

    subject = subject_of(Chunks())
    monkeypatch.setattr(Examination, "masses", None)
    found = outcomes(subject, "L2", "L3", "L4", "L5")
    assert set(found.values()) == {"cannot tell"}
