"""`golf doctor [overrides]`: everything that can be wrong with a machine, found before the clock starts.

Each check gives lines `ok | warn | fail   what   found (why it matters)   → what to type`. A warning is something that
golf does without, or a slower run; a failure is something that the run would meet. Never prompts, never leaves the
machine, leaves nothing behind. Looking takes at most a minute; the dry run of every stage takes what the run takes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from golf.doctor.finding import Line, Subject, split_error, subject_of
from golf.errors import GolfError, UserError

Check = tuple[str, Callable[[], list[Line]]]
DRY_RUN_SECONDS = 1800.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"doctor: {message}; type golf doctor --help")


def parser() -> argparse.ArgumentParser:
    made = _Parser("golf doctor", description="The machine, and a dry run of every stage, before the clock starts.")
    made.add_argument("overrides", nargs="*", help="as for train.py: experiment=baseline hardware=h100x8")
    made.add_argument("--no-dry-run", action="store_true", help="only look (at most 60 s)")
    size = made.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="dry run at full shape, however slow (the default on GPUs)")
    size.add_argument("--tiny", action="store_true", help="dry run at tiny size, on synthetic data, eagerly")
    made.add_argument("--steps", type=int, default=0, help="optimizer steps of the dry run; 0 = 3, or 8 on GPUs")
    made.add_argument("--step-ms", type=float, help="expected milliseconds per step; default: as golf plan knows it")
    made.add_argument("--tolerance", type=float, default=0.1, help="share by which steps may be slower than expected")
    made.add_argument("--timeout", type=float, default=DRY_RUN_SECONDS, help="most seconds for the dry run")
    made.add_argument("--config-dir", type=Path, action="append", default=[], help="a further folder with groups")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    return made


def main(argv: Sequence[str]) -> int:
    """Exit code 0 if nothing failed, 1 otherwise."""
    arguments = parser().parse_intermixed_args(list(argv))
    require_arguments(arguments)
    begun, found = time.monotonic(), []
    for lines in examine(arguments):
        found += lines
        if lines and not arguments.json:
            print("\n".join(map(str, lines)), flush=True)
    failed = sum(line.status == "fail" for line in found)
    if arguments.json:
        seconds = round(time.monotonic() - begun, 1)
        print(json.dumps({"ok": not failed, "seconds": seconds, "checks": [asdict(line) for line in found]}, indent=1))
    else:
        print(verdict(found, arguments.overrides, arguments.no_dry_run))
    return 1 if failed else 0


def require_arguments(arguments: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        UserError: the first of them.
    """
    if arguments.steps < 0:
        raise UserError(f"doctor: --steps {arguments.steps} must be at least 0: type --steps 8")
    if arguments.step_ms is not None and not arguments.step_ms > 0:
        raise UserError(f"doctor: --step-ms {arguments.step_ms:g} must be above 0: type --step-ms 122")
    if not arguments.tolerance >= 0:
        raise UserError(f"doctor: --tolerance {arguments.tolerance:g} must be at least 0: type --tolerance 0.1")
    if not arguments.timeout > 0:
        raise UserError(f"doctor: --timeout {arguments.timeout:g} must be above 0: type --timeout 1800")
    for folder in arguments.config_dir:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder}: no such folder; type the path of a folder with config groups")


def examine(arguments: argparse.Namespace) -> Iterator[list[Line]]:
    """The lines of one check after the other."""
    from golf.doctor import gpu, packages

    # nvidia-smi is asked first: later this process itself is one that uses memory of the GPUs.
    before: list[gpu.Gpu] = []
    yield guarded("versions", packages.versions)
    yield guarded("pairs", packages.known_bad)
    lines = guarded("gpu", lambda: before.extend(gpu.read_gpus()) or [])
    if lines:
        yield lines
    subject = subject_of(arguments.overrides, arguments.config_dir)
    yield guarded("config", lambda: configuration(subject))
    for name, check in looking(subject, before):
        yield guarded(name, check)
    if not arguments.no_dry_run:
        from golf.doctor.dry_run import dry_run

        yield guarded("dry run", lambda: dry_run(subject, arguments))


def looking(subject: Subject, gpus: list[Any]) -> list[Check]:
    """Every check that runs nothing of the user's network."""
    from golf.doctor import attention, compressors, data, disk, environment, gpu, ranks, throughput

    return [
        ("launcher", environment.launcher),
        ("devices", lambda: environment.devices(subject)),
        ("gpu", lambda: gpu.state(gpus, subject)),
        ("compiler", environment.compiler),
        ("attention", lambda: attention.attention(subject)),
        ("compressors", lambda: compressors.compressors(subject)),
        ("disk", lambda: disk.disk(subject)),
        ("data", lambda: data.data(subject)),
        ("ranks", lambda: ranks.ranks(subject)),
        ("throughput", lambda: throughput.throughput(subject)),
        ("browser", environment.browser),
        ("wandb", environment.login),
    ]


def guarded(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """A check's lines; what it raises becomes a line too, because a doctor must not die of the patient."""
    try:
        return check()
    except GolfError as error:
        what, todo = split_error(error)
        return [Line("fail", name, what, todo or "golf check", "a run would end with this line")]
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [Line("fail", name, said, "golf doctor --json, and report it", "this check itself has failed")]


def configuration(subject: Subject) -> list[Line]:
    """Does what was asked for compose and check?"""
    if subject.errors:
        return [Line("fail", "config", line, "golf check", "train.py would refuse it") for line in subject.errors]
    return [Line("ok", "config", " ".join(subject.overrides) or "the defaults of train.py")]


def verdict(found: list[Line], overrides: Sequence[str], no_dry_run: bool) -> str:
    count: dict[Any, int] = {status: sum(line.status == status for line in found) for status in ("ok", "warn", "fail")}
    if count["fail"]:
        return f"\n{count['fail']} failed, {count['warn']} warnings: see the lines that begin with fail"
    tail = "" if no_dry_run else "; every stage runs here"
    command = " ".join(overrides) or "experiment=demo"
    return f"\nnothing failed, {count['warn']} warnings{tail}: python train.py {command}"
