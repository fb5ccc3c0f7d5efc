"""The referee at the end of a run (`rules=strict`): the rules that read records, in a second, into rules.json."""

from __future__ import annotations

import json
from typing import Any

from golf.files import write_atomically
from golf.rules.audit import audit
from golf.rules.profile import make_profile
from golf.rules.registry import RULES
from golf.rules.subject import open_subject
from golf.rules.verdict import FAIL


def audit_run(run: Any) -> dict[str, Any] | None:
    """Audit a run whose summary is written; None with rules=none (and for runs from before there was a referee)."""
    node = run.config.get("rules") or {}
    if not node.get("counted"):
        return None
    cheap = [name for name, rule in RULES.items() if rule.cheap]
    report = audit(open_subject(run.path, quick=True), make_profile(node), cheap)
    write_atomically(run.path / "rules.json", json.dumps(report, indent=1, default=str))
    for entry in report["rules"]:
        if entry["outcome"] == FAIL and entry["counted"]:
            run.say(f"rule {entry['id']} fails: {entry['reason']} → {entry['remedy']}")
    failed, tested = len(report["failed"]), len(report["tested_by_record"])
    run.say(f"referee ({report['profile']}): {tested} rules on records, {failed} failed; all: golf audit {run.path}")
    return report
