from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def strict():
    from golf.rules.profile import load_profile

    return load_profile("strict")


@pytest.fixture(scope="session")
def outcomes(strict):
    """outcomes(subject, "L1", …) -> {id: outcome}."""
    from golf.rules.audit import audit

    def call(subject, *rules):
        return {entry["id"]: entry["outcome"] for entry in audit(subject, strict, rules)["rules"]}

    return call
