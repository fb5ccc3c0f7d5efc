"""What a rule says: one of four outcomes, a line of reason, what to do, and the evidence.

Invariant: nothing here says that something is legal. `pass` means that this test found no fault, and how it tested.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PASS, FAIL, NOT_APPLICABLE, CANNOT_TELL = "pass", "fail", "not applicable", "cannot tell"
OUTCOMES = (PASS, FAIL, NOT_APPLICABLE, CANNOT_TELL)
BEHAVIOUR, RECORD = "behaviour", "record"  # something was run and watched, or files and logs were read


@dataclass(frozen=True)
class Verdict:
    """`how` is BEHAVIOUR or RECORD; empty where nothing was tested."""

    outcome: str
    reason: str
    remedy: str = ""
    how: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def passed(reason: str, how: str, **evidence: Any) -> Verdict:
    return Verdict(PASS, reason, "", how, evidence)


def failed(reason: str, remedy: str, how: str, **evidence: Any) -> Verdict:
    return Verdict(FAIL, reason, remedy, how, evidence)


def not_applicable(reason: str) -> Verdict:
    return Verdict(NOT_APPLICABLE, reason)


def cannot_tell(missing: str, remedy: str, **evidence: Any) -> Verdict:
    """`missing`: the evidence that is not there; `remedy`: how to provide it."""
    return Verdict(CANNOT_TELL, missing, remedy, "", evidence)
