"""The `golf` command: ls, show and check here; every other subcommand is a module that is imported when it is called.

Invariant: `golf --help`, ls, show, check and every error of theirs import neither torch nor lightning.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import golf
from golf.config.nearest import offer
from golf.errors import UserError

# Subcommands in modules of their own, as "module:function" with function(argv) -> exit code or None.
MODULES: dict[str, tuple[str, str]] = {
    "doctor": ("golf.doctor.command:main", "the environment, and a dry run of every stage"),
    "data": ("golf.data_commands.main:main", "download · tokenizer · retokenise · verify"),
    "conform": ("golf.interop.conform:main", "run conformance vectors against this implementation"),
    "sample": ("golf.sampling:main", "text from a packed model"),
    "plan": ("golf.size.plan:main", "before training: bytes by class, steps, seconds, cost"),
    "translate": ("golf.config.translate:main", "a published run command as golf overrides"),
    "audit": ("golf.rules.audit:main", "the referee: 33 rules on a run, a packed model, a submission or a log"),
    "runs": (
        "golf.runs.command:main",
        "finished runs: table, differences, comparisons, the leaderboard, pages",
    ),
}
USAGE = """golf: train, compress and score language models that fit into 16,000,000 bytes

  python train.py experiment=demo          train, export and score
  python export.py run=<folder>            quantise, pack and score a run again
  python evaluate.py artifact=<file>       score a packed model

usage: golf <command> …
"""


class _Parser(argparse.ArgumentParser):
    """argparse with golf's manners: a wrong argument is one line that says what to type."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.removeprefix('golf ')}: {message}; type {self.prog} --help")


def _ls_parser() -> argparse.ArgumentParser:
    parser = _Parser("golf ls", description="Groups and options of the configuration, with what each option is.")
    parser.add_argument("group", nargs="?", help="one group (experiment, model, model/mlp …); without it: all")
    _add_common(parser)
    return parser


def _show_parser() -> argparse.ArgumentParser:
    parser = _Parser("golf show", description="A resolved configuration and what follows from it.")
    parser.add_argument("overrides", nargs="*", help="as for train.py: experiment=smoke optim.matrix_lr=0.02")
    _add_for(parser)
    _add_common(parser)
    return parser


def _check_parser() -> argparse.ArgumentParser:
    parser = _Parser("golf check", description="Every error of a configuration at once, before anything runs.")
    parser.add_argument("overrides", nargs="*", help="as for train.py; sweeps (a=1,2) need -m")
    parser.add_argument("-m", "--multirun", action="store_true", help="check the jobs of a sweep")
    _add_for(parser)
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config-dir", type=Path, action="append", default=[], help="a further folder with config groups"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _add_for(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--for", dest="script", default="train", choices=("train", "export", "evaluate"), help="script")


def ls(argv: Sequence[str]) -> int:
    """`golf ls [group]`: what can be chosen."""
    from golf.config.catalogue import options, select
    from golf.config.compose import conf_dir

    arguments = _ls_parser().parse_args(list(argv))
    found = options([conf_dir(), *_existing(arguments.config_dir)])
    if arguments.group:
        found = select(found, arguments.group)
    if arguments.json:
        listed = {
            group: [
                {"name": o.name, "description": o.description, "command": o.command, "path": str(o.path)} for o in items
            ]
            for group, items in found.items()
        }
        print(json.dumps(listed, indent=1))
        return 0
    width = min(max(len(option.name) for items in found.values() for option in items), 40)
    for group, items in found.items():
        print(f"{group}=")
        for option in items:
            print(f"  {option.name.ljust(width)}  {option.description}".rstrip())
    return 0


def show(argv: Sequence[str]) -> int:
    """`golf show [overrides]`: the resolved configuration as YAML, with derived values as comments."""
    from golf.config.compose import compose
    from golf.config.derived import derived

    arguments = _show_parser().parse_intermixed_args(list(argv))
    config = compose(arguments.script, arguments.overrides, _existing(arguments.config_dir))
    values = derived(config, parameters=arguments.json)
    if arguments.json:
        print(json.dumps({"config": config, "derived": values}, indent=1))
        return 0
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(OmegaConf.create(_escaped(config))), end="")
    if values:
        print("# derived")
        print(
            "\n".join(
                f"#   {name}: {value:,}" if isinstance(value, int) else f"#   {name}: {value}"
                for name, value in values.items()
            )
        )
    return 0


def check(argv: Sequence[str]) -> int:
    """`golf check [overrides]`: exit 0 without errors, 2 with a line for each."""
    from golf.config.command import check_command

    arguments = _check_parser().parse_intermixed_args(list(argv))
    findings = check_command(
        arguments.script, arguments.overrides, _existing(arguments.config_dir), multirun=arguments.multirun
    )
    if arguments.json:
        print(json.dumps({"ok": not findings.errors, "errors": findings.errors, "notes": findings.notes}, indent=1))
        return 2 if findings.errors else 0
    for note in findings.notes:
        print(f"note: {note}")
    if findings.errors:
        raise UserError("\n".join(findings.errors))
    print("no errors")
    return 0


def _existing(folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder}: no such folder; type the path of a folder with config groups")
    return list(folders)


def _escaped(value: Any) -> Any:
    """Unresolved text (`${hydra:…}`) escaped, so that it is printed as it stands."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], Callable[[], argparse.ArgumentParser], str]] = {
    "ls": (ls, _ls_parser, "what exists: groups, options, experiments"),
    "show": (show, _show_parser, "a resolved configuration and what follows from it"),
    "check": (check, _check_parser, "every error of a configuration at once"),
}


def available() -> dict[str, str]:
    """Subcommands of this installation with one line each; a module that is not there is not offered."""
    commands = {name: text for name, (_, _, text) in COMMANDS.items()}
    package = Path(golf.__file__).parent
    for name, (target, text) in MODULES.items():
        parts = target.partition(":")[0].split(".")[1:]
        if package.joinpath(*parts).with_suffix(".py").is_file():
            commands[name] = text
    return commands


def help_text() -> str:
    return USAGE + "\n" + "\n".join(f"  {name.ljust(9)} {text}" for name, text in available().items())


def run(argv: Sequence[str]) -> int:
    """Dispatches one command line; raises GolfError for what is wrong with it."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    name, rest = argv[0], list(argv[1:])
    if name == "--version":
        print(f"golf {golf.__version__}")
        return 0
    commands = available()
    if name not in commands:
        raise UserError(f"{name}: no such command; {offer(name, commands)}; type golf --help")
    if name in COMMANDS:
        return COMMANDS[name][0](rest)
    import importlib

    module, _, function = MODULES[name][0].partition(":")
    return getattr(importlib.import_module(module), function)(rest) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    from golf.config.entry import guard

    return guard(lambda: run(list(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
