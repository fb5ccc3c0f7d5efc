"""Checks a whole command line before anything heavy is imported: composition, nodes, cross checks, sweeps.

Invariant: every mistake that can be seen without torch is reported in one go, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from golf.config.ablation import expanded
from golf.config.check import Findings, find
from golf.config.compose import Composer, CompositionError
from golf.config.engines import registry
from golf.config.sweeps import variants, with_sweep_file, without_multirun
from golf.config.undeclared import misplaced_package, undeclared
from golf.errors import UserError


def check_command(
    name: str,
    overrides: Sequence[str],
    config_dirs: Sequence[Path] = (),
    multirun: bool = False,
    folder: Path | None = None,
) -> Findings:
    """All findings of `python <name>.py <overrides>`; sweeps are expanded when `multirun`."""
    put_on_path(config_dirs)
    composer = Composer(name, tuple(config_dirs), folder) if folder else Composer(name, tuple(config_dirs))
    findings = Findings(errors=registry.mistakes(overrides, multirun))
    if multirun:
        overrides = expanded(composer, overrides)
    for candidate in variants(composer, with_sweep_file(composer, overrides)) if multirun else [list(overrides)]:
        findings.add(_check_one(composer, candidate))
    if not multirun:
        findings.add(Findings(errors=without_multirun(composer, overrides)))
    for directory in config_dirs:
        findings.add(Findings(errors=misplaced_package(directory)))
    return findings


def require(name: str, overrides: Sequence[str], config_dirs: Sequence[Path] = (), multirun: bool = False) -> Findings:
    """`check_command`, raising one UserError with a line per error; returns the notes otherwise."""
    findings = check_command(name, overrides, config_dirs, multirun)
    if findings.errors:
        raise UserError("\n".join(findings.errors))
    return findings


def _check_one(composer: Composer, overrides: list[str]) -> Findings:
    findings = Findings()
    try:
        config = composer.compose(overrides)
    except CompositionError as error:
        findings.errors += error.lines
        if not error.good:
            return findings
        try:  # what is left may have mistakes of its own: they are told in the same breath
            config = composer.compose(error.good)
        except CompositionError:
            return findings
        config = {key: value for key, value in config.items() if value != "???"}
    findings.add(Findings(notes=[str(item) for item in composer.replaced]))
    findings.add(find(config))
    findings.add(Findings(errors=undeclared(config, composer.name, composer.folder)))
    return findings


def put_on_path(config_dirs: Sequence[Path]) -> None:
    """Techniques in the working folder are importable, as they are for the scripts in it."""
    import sys

    for folder in (Path.cwd(), *(Path(item).resolve().parent for item in config_dirs)):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
