"""`golf doctor`: is this machine ready? What is here, what is missing, and a dry run of every stage at tiny size.

Each check gives lines `ok | warn | fail   what   detail   → what to type`. A warning is something that golf does
without; a failure is something that a run would meet. Never prompts, never uses the network, leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

from golf.errors import GolfError, UserError


@dataclass(frozen=True)
class Line:
    """One finding; `todo` is what to type, empty where nothing has to be done."""

    status: Literal["ok", "warn", "fail"]
    what: str
    detail: str
    todo: str = ""

    def __str__(self) -> str:
        text = f"{self.status:<5} {self.what:<21} {self.detail}"
        return f"{text}  → {self.todo}" if self.todo else text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"doctor: {message}; type golf doctor --help")


def parser() -> argparse.ArgumentParser:
    made = _Parser("golf doctor", description="The environment, and a dry run of every stage at tiny size.")
    made.add_argument("overrides", nargs="*", help="as for train.py: experiment=baseline hardware=cpu")
    made.add_argument("--no-dry-run", action="store_true", help="only look, run nothing")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    return made


def main(argv: Sequence[str]) -> int:
    """Exit code 0 if nothing failed, 1 otherwise."""
    from golf import doctor_environment as environment

    arguments = parser().parse_intermixed_args(list(argv))
    overrides = arguments.overrides
    checks: list[tuple[str, Callable[[], list[Line]]]] = [
        ("versions", environment.versions),
        ("devices", environment.devices),
        ("compiler", environment.compiler),
        ("compressors", environment.compressors),
        ("disk", environment.disk),
        ("config", lambda: configuration(overrides)),
        ("data", lambda: environment.data(overrides)),
        ("browser", environment.browser),
        ("wandb", environment.login),
    ]
    if not arguments.no_dry_run:
        from golf.doctor_dry_run import dry_run

        checks.append(("dry run", lambda: dry_run(overrides)))
    found: list[Line] = []
    for name, check in checks:
        lines = guarded(name, check)
        found += lines
        if not arguments.json:
            print("\n".join(map(str, lines)), flush=True)
    failed = sum(line.status == "fail" for line in found)
    if arguments.json:
        print(json.dumps({"ok": not failed, "checks": [asdict(line) for line in found]}, indent=1))
    else:
        print(verdict(found, arguments.no_dry_run))
    return 1 if failed else 0


def guarded(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """A check's lines; what it raises becomes a line too, because a doctor must not die of the patient."""
    try:
        return check()
    except GolfError as error:
        return [Line("fail", name, text) for text in str(error).splitlines()]
    except Exception as error:
        return [Line("fail", name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")]


def configuration(overrides: Sequence[str]) -> list[Line]:
    """Does what was asked for compose and check?"""
    from golf.config.command import check_command

    findings = check_command("train", overrides)
    if findings.errors:
        return [Line("fail", "config", line) for line in findings.errors]
    return [Line("ok", "config", " ".join(overrides) or "the defaults of train.py")]


def verdict(found: list[Line], no_dry_run: bool) -> str:
    count: dict[Any, int] = {status: sum(line.status == status for line in found) for status in ("ok", "warn", "fail")}
    if count["fail"]:
        return f"\n{count['fail']} failed, {count['warn']} warnings: see the lines that begin with fail"
    tail = "" if no_dry_run else "; every stage runs here"
    return f"\nnothing failed, {count['warn']} warnings{tail}: python train.py experiment=demo"
