"""Entry points: `run_script` is what train.py, export.py and evaluate.py call, `guard` what every command line is in.

Order: parse → check (no torch) → Hydra → the function named, imported only then. GolfError becomes one line per mistake
on stderr and its exit code; Ctrl-C is 130; anything else is our bug: traceback and exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from golf.config import resolvers
from golf.errors import GolfError, Interrupted, RankLost, UserError
from golf.files import DISK_ERRORS, disk_error
from golf.signals import stop_with

Function = Callable[[Any], Any]

# Here and not in `run_script`: a worker process of a launcher imports this module before it composes its job.
resolvers.register()


def report(error: GolfError | Interrupted) -> int:
    """Prints an error, each of its lines with golf's prefix, on rank 0 (a lost rank: on every node); the exit code."""
    on_node = isinstance(error, RankLost) and os.environ.get("LOCAL_RANK") == "0"
    if resolvers.rank() == 0 or on_node:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"golf: {line}", file=sys.stderr, flush=True)
    return error.exit_code


def guard(main: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit code; never raises for what a user can do wrong."""
    try:
        with stop_with("stopped by {signal}"):
            return main() or 0
    except (GolfError, Interrupted) as error:
        return report(error)
    except KeyboardInterrupt:
        print("golf: interrupted", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # the reader of our output has gone (golf ls | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in DISK_ERRORS and error.filename:
            return report(disk_error(error, Path(error.filename)))
        traceback.print_exc()
        return 1
    except Exception:
        traceback.print_exc()
        return 1


def run_script(name: str, function: Function | str, argv: Sequence[str] | None = None) -> NoReturn:
    """Checks and runs `python <name>.py <overrides>`: `function` (or "module:name") gets each job's composed config.

    What it returns is the objective of the job (Hydra's sweepers read it). Exits with golf's exit codes.
    """
    sys.exit(guard(lambda: _run_script(name, function, list(sys.argv[1:] if argv is None else argv))))


def _run_script(name: str, function: Function | str, argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        from golf.config.script_help import script_help

        print(script_help(name))
        return 0
    arguments = parse(argv)
    from golf.config.command import put_on_path, require

    put_on_path(_config_dirs(arguments))
    if not _only_shows(arguments) and resolvers.rank() == 0:
        require(name, arguments.overrides, _config_dirs(arguments), bool(arguments.multirun))
    if arguments.multirun and "sweep=ablate" in argv:
        argv = _with_parts(name, argv, arguments)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from golf.config.as_run import added

    sys.argv[1:] = added(name, argv)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to `guard` instead of being worded by Hydra
    try:
        if arguments.multirun:
            return _sweep(name, function)
        _hydra_main(name, function)
    except (HydraException, OmegaConfBaseException) as error:
        from golf.config.compose import one_line

        raise UserError(one_line(error)) from error
    return 0


def _with_parts(name: str, argv: list[str], arguments: argparse.Namespace) -> list[str]:
    """The command line with the parts that sweep=ablate is to try."""
    from golf.config.ablation import expanded
    from golf.config.compose import Composer

    found = expanded(Composer(name, _config_dirs(arguments)), arguments.overrides)
    return [*argv, *found[len(arguments.overrides) :]]


def _sweep(name: str, function: Function | str) -> int:
    """All jobs; the exit code is that of the worst. What stops the sweep itself says how to go on with it."""
    from golf.config.engines import registry
    from golf.config.sweep_table import SweepTable

    registry.register()
    SweepTable.exit_code, SweepTable.again, SweepTable.folder = 0, "", None
    try:
        _hydra_main(name, function)
    except BaseException:
        if SweepTable.begun():
            print(f"golf: go on with the jobs that are left: {SweepTable.again}", file=sys.stderr, flush=True)
        raise
    return SweepTable.exit_code


def _hydra_main(name: str, function: Function | str) -> None:
    import hydra

    from golf.config.compose import conf_dir

    def job(config: Any) -> Any:
        return run_job(config, function)

    job.__module__ = name  # Hydra names the job after it
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(job)()


def run_job(config: Any, function: Function | str) -> Any:
    """One job: a single run that fails ends the process, a job of a sweep is recorded and lets the others go on."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    resolvers.register()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return _run_sweep_job(config, function)
    try:
        return _load(function)(config)
    except GolfError as error:
        sys.exit(report(error))


def _run_sweep_job(config: Any, function: Function | str) -> Any:
    from golf.config.engines.records import WORST, finished, usable
    from golf.config.job import current_job
    from golf.config.sweep_table import record_job

    job = current_job()
    if (record := finished(job.folder, job.overrides)) is not None:
        print(f"job in {job.folder.name} is finished already", flush=True)
        return record["objective"]
    started, outcome, message, code = time.monotonic(), None, "", 0
    try:
        outcome = _load(function)(config)
    except GolfError as error:
        message, code = str(error).splitlines()[0], report(error)
    except Exception as error:
        message, code = f"{type(error).__name__}: {error}".splitlines()[0], 1
        traceback.print_exc()
    if resolvers.rank() == 0:
        record_job(config, outcome, time.monotonic() - started, message, code)
    return outcome if usable(outcome) or (outcome is None and not code) else WORST


def _load(function: Function | str) -> Function:
    if callable(function):
        return function
    module, _, attribute = function.partition(":")
    return getattr(importlib.import_module(module), attribute)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own flags and the overrides of a command line; UserError for a flag that does not exist."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown and "=" in unknown[0]:
            raise UserError(f"{unknown[0]}: overrides have no dashes; type {unknown[0].lstrip('-')}")
        raise UserError(f"{message}; type --hydra-help for the flags, key=value for everything else")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(list(argv))


def _only_shows(arguments: argparse.Namespace) -> bool:
    shows = ("help", "hydra_help", "version", "shell_completion", "cfg", "info", "experimental_rerun")
    return any(getattr(arguments, name, None) for name in shows) or bool(arguments.config_path or arguments.config_name)


def _config_dirs(arguments: argparse.Namespace) -> tuple[Path, ...]:
    return (Path(arguments.config_dir),) if arguments.config_dir else ()
