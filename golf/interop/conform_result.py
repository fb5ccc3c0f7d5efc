"""One line of a conformance report: what was compared, how far apart it is, and whether that is near enough."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Check:
    """`error` and `tolerance` share a unit (absolute, or relative where the quantity says so)."""

    vector: str
    case: str
    quantity: str
    error: float | None
    tolerance: float | None
    status: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measured(vector: str, case: str, quantity: str, error: float, tolerance: float, detail: str = "") -> Check:
    """A comparison that was made; a value that is not a finite number never passes."""
    error = float(error)
    if not math.isfinite(error):
        return Check(vector, case, quantity, None, tolerance, "fail", detail or f"the difference is {error}")
    return Check(vector, case, quantity, error, tolerance, "pass" if error <= tolerance else "fail", detail)


def exact(vector: str, case: str, quantity: str, ours: Any, expected: Any, detail: str = "") -> Check:
    """Equality; the error is 0 or 1, and the first difference is the detail."""
    same = ours == expected
    if not same and not detail:
        detail = f"got {str(ours)[:80]}, expected {str(expected)[:80]}"
    return measured(vector, case, quantity, 0.0 if same else 1.0, 0.0, detail)


def unsupported(vector: str, case: str, quantity: str, reason: str) -> Check:
    """A vector of something that golf cannot do in this version; counts as not passed."""
    return Check(vector, case, quantity, None, None, "unsupported", reason)


def failed(vector: str, case: str, quantity: str, reason: str) -> Check:
    """The comparison could not be made although it should have been."""
    return Check(vector, case, quantity, None, None, "fail", reason)


def max_difference(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    if ours.shape != expected.shape:
        return math.inf
    if ours.numel() == 0:
        return 0.0
    return float((ours.detach().double() - expected.double()).abs().max())


def relative_difference(ours: float, expected: float) -> float:
    """|ours - expected| / |expected|; for an expected zero, the absolute difference."""
    return abs(ours - expected) / (abs(expected) or 1.0)
