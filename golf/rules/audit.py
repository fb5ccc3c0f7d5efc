"""`golf audit <run folder | packed model | submission folder | log>`: every rule, what it found, and how it looked.

It is no ruling: it says which properties were tested, by behaviour or on records, which failed, and what is missing
where nothing can be told. Exit code 4 if a rule fails that the profile counts. Logs are audited without torch.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from golf.config.nearest import offer
from golf.errors import UserError, VerificationFailed
from golf.files import write_atomically
from golf.rules.profile import Profile, load_profile
from golf.rules.registry import RULES
from golf.rules.subject import Subject, open_subject
from golf.rules.upstream import told_of_upstream
from golf.rules.verdict import BEHAVIOUR, CANNOT_TELL, FAIL, NOT_APPLICABLE, PASS, RECORD, Verdict, cannot_tell

RULES_SCHEMA = 1
SHOWN = {PASS: "tested", FAIL: "FAILED", CANNOT_TELL: "not testable here", NOT_APPLICABLE: NOT_APPLICABLE}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('golf ')}: {message}; type {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    found = _Parser("golf audit", description=__doc__)
    found.add_argument("path", type=Path, nargs="?", help="a run folder, a packed model, a submission folder or a log")
    found.add_argument("--list", action="store_true", help="every rule: its id, who stands behind it, its threads")
    found.add_argument("--profile", default="strict", help="which failures count: strict, challenge, … or a YAML file")
    found.add_argument("--rules", default="", help="only these, e.g. L1,L7,L20")
    found.add_argument("--quick", action="store_true", help="records only: no network is run, no data is read")
    found.add_argument("--export", help="which export of a run")
    found.add_argument("--data", help="folder with the validation split (a run knows its own)")
    found.add_argument("--tokenizer", help="the tokenizer's file, where it is not in that folder")
    found.add_argument(
        "--upstream", action="append", default=[], metavar="KEY=VALUE", help="what a .ptz does not say (evaluate.py)"
    )
    found.add_argument("--against", type=Path, help="the submission, run or log to beat (L31)")
    found.add_argument("--output", type=Path, help="write rules.json here (a run folder gets one anyway)")
    found.add_argument("--config-dir", type=Path, action="append", default=[], help="a further folder with rules/")
    found.add_argument("--json", action="store_true", help="machine-readable output")
    return found


def main(argv: Sequence[str]) -> int:
    """`golf audit …`: 4 if a counted rule fails, else 0."""
    arguments = parser().parse_args(list(argv))
    if arguments.list or arguments.path is None:
        if not arguments.list:
            raise UserError("golf audit: type a run folder, a packed model, a submission folder or a log, or --list")
        print(listing(load_profile(arguments.profile, arguments.config_dir), arguments.json))
        return 0
    profile, names = load_profile(arguments.profile, arguments.config_dir), chosen_rules(arguments.rules)
    given: dict[str, Any] = {
        "quick": arguments.quick,
        "data_folder": arguments.data,
        "tokenizer_file": arguments.tokenizer,
        "upstream": told_of_upstream(arguments.upstream),
    }
    if arguments.export and (arguments.path / "config.yaml").is_file():
        given["export"] = arguments.export
    subject = open_subject(arguments.path, **given)
    if arguments.data and not arguments.quick and subject.material is None:
        raise UserError(f"--data {arguments.data}: no such folder; type the folder with fineweb_val_*.bin")
    if arguments.against is not None:
        subject.against = open_subject(arguments.against, quick=True).facts
    report = audit(subject, profile, names)
    target = arguments.output or (arguments.path / "rules.json" if subject.kind == "run" else None)
    if target is not None and not (arguments.rules and arguments.output is None):
        write_atomically(target, json.dumps(report, indent=1, default=str))
    print(json.dumps(report, indent=1, default=str) if arguments.json else render(report))
    return VerificationFailed.exit_code if report["failed"] else 0


def chosen_rules(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RULES:
            raise UserError(f"--rules {name}: no such rule; {offer(name, RULES)}")
    return names or list(RULES)


def listing(profile: Profile, as_json: bool) -> str:
    """All rules with their status, the threads they come from, and whether a profile counts them."""
    entries = [
        {"id": rule.id, "status": list(rule.status), "sources": list(rule.sources), "counted": profile.counts(rule.id)}
        | {"title": rule.title}
        for rule in RULES.values()
    ]
    if as_json:
        return json.dumps(entries, indent=1)
    lines = [
        f"{entry['id']:>3}  {', '.join(entry['status']):<32} {entry['title']}"
        + (f" ({', '.join(entry['sources'])})" if entry["sources"] else "")
        + ("" if entry["counted"] else " (not counted)")
        for entry in entries
    ]
    return "\n".join([*lines, f"#… are threads of openai/parameter-golf; counted as in profile {profile.name}"])


def audit(subject: Subject, profile: Profile, names: Sequence[str] = ()) -> dict[str, Any]:
    """Run rules; the report as plain data."""
    begun, entries = time.monotonic(), []
    for name in names or RULES:
        rule, started = RULES[name], time.monotonic()
        verdict = judged(name, subject, profile)
        entry = {"id": name, "title": rule.title, "status": list(rule.status), "sources": list(rule.sources)}
        entry |= {**verdict.as_dict(), "counted": profile.counts(name)}
        entries.append({**entry, "seconds": round(time.monotonic() - started, 3)})
    outcomes = Counter(entry["outcome"] for entry in entries)
    return {
        "schema": RULES_SCHEMA,
        "subject": {"kind": subject.kind, "where": subject.where},
        "profile": profile.name,
        "rules": entries,
        "outcomes": dict(outcomes),
        "tested_by_behaviour": [entry["id"] for entry in entries if entry["how"] == BEHAVIOUR],
        "tested_by_record": [entry["id"] for entry in entries if entry["how"] == RECORD],
        "failed": [entry["id"] for entry in entries if entry["outcome"] == FAIL and entry["counted"]],
        "seconds": round(time.monotonic() - begun, 3),
    }


def judged(name: str, subject: Subject, profile: Profile) -> Verdict:
    """One rule's verdict; evidence that cannot be read is evidence that is missing, and the report says so."""
    try:
        return RULES[name].check(subject, profile)
    except UserError as error:
        return cannot_tell(str(error), "repair what the line names, and audit again")


def render(report: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [f"{report['subject']['kind']} {report['subject']['where']}, profile {report['profile']}", ""]
    said: set[str] = set()
    for entry in report["rules"]:
        outcome = SHOWN[entry["outcome"]] + ("" if entry["outcome"] != FAIL or entry["counted"] else " (not counted)")
        how = f" by {entry['how']}" if entry["how"] else ""
        lines.append(f"{entry['id']:>3}  {outcome + how:<20} {entry['title']}")
        lines.append(f"     {'':<20} {entry['reason']}")
        if entry["outcome"] == FAIL:
            lines.append(f"     {'':<20} rule of: {', '.join([*entry['status'], *entry['sources']])}")
        if entry["outcome"] in (FAIL, CANNOT_TELL) and entry["remedy"] not in ("", *said):
            said.add(entry["remedy"])
            lines.append(f"     {'':<20} → {entry['remedy']}")
    outcomes = report["outcomes"]
    lines += [
        "",
        f"{len(report['tested_by_behaviour'])} tested by behaviour, {len(report['tested_by_record'])} on records: "
        f"{outcomes.get(FAIL, 0)} failed; {outcomes.get(NOT_APPLICABLE, 0)} not applicable, "
        f"{outcomes.get(CANNOT_TELL, 0)} not testable here; {report['seconds']:.1f} s",
        "This is no ruling: it says what was tested, and how.",
    ]
    if report["failed"]:
        lines.append(f"failed in profile {report['profile']}: {', '.join(report['failed'])}")
    return "\n".join(lines)
