"""`golf translate '<published command>'`: the environment variables of a record's command as golf overrides.

A published command only makes sense over its script's own defaults: those of the root script are `experiment=baseline`,
those of a record's script its experiment (found by the folder in the command, or given by --base). Invariant: every
variable of the command is accounted for, by an override or by a note; what golf does not know stops with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from golf.config.code import to_override
from golf.config.nearest import offer
from golf.config.translate_command import PublishedCommand, read_command
from golf.config.translate_names import DIRECT, INERT, LATER, OFF, OWN, REMARKS, SYSTEM, SYSTEM_PREFIXES
from golf.config.translate_rules import ARCHITECTURE, Rule
from golf.config.translate_training import TRAINING
from golf.config.translate_ttt import NAMES as TTT_NAMES
from golf.config.translate_ttt import test_time_training
from golf.config.translate_view import Note, View, as_value
from golf.errors import UserError

RULES = {**ARCHITECTURE, **TRAINING, test_time_training: TTT_NAMES}
KNOWN = frozenset((*DIRECT, *OFF, *INERT, *OWN, *LATER, *(name for names in RULES.values() for name in names)))
EXAMPLE = "golf translate 'NUM_LAYERS=11 torchrun --nproc_per_node=8 train_gpt.py'"


@dataclass
class Translation:
    """Overrides over `experiment=<base>`, a note per variable that is not a plain override, and golf's own check."""

    base: str
    overrides: list[str]
    notes: list[Note]
    unknown: list[str]
    errors: list[str]

    @property
    def line(self) -> str:
        return "python train.py " + " ".join(shlex.quote(text) for text in (f"experiment={self.base}", *self.overrides))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"translate: {message}; type golf translate --help")


def parser() -> argparse.ArgumentParser:
    found = _Parser("golf translate", description="A published run command as golf overrides, in one line.")
    found.add_argument("command", nargs="*", help="the command, in quotes; - reads it from standard input")
    found.add_argument("--base", help="experiment whose values the command is laid over (default: baseline)")
    found.add_argument("--allow-unknown", action="store_true", help="leave out variables that golf does not know")
    found.add_argument("--json", action="store_true", help="machine-readable output")
    return found


def main(argv: Sequence[str]) -> int:
    """Prints the line and its notes; exit code 2 for unknown variables and for a result that does not check."""
    arguments = parser().parse_args(_own_flags(argv))
    text = " ".join(arguments.command)
    text = sys.stdin.read() if text == "-" else text
    if not text.strip():
        raise UserError(f"translate: a command is missing; type {EXAMPLE}")
    found = translate(text, arguments.base, allow_unknown=arguments.allow_unknown)
    print(_as_json(found) if arguments.json else _as_text(found))
    if found.errors:
        raise UserError("\n".join(f"translated, but golf check says: {line}" for line in found.errors))
    return 0


def _own_flags(argv: Sequence[str]) -> list[str]:
    """golf's flags stay flags; every other word belongs to the command, dashes or not (it may come unquoted)."""
    flags, words, taken = [], [], False
    for word in argv:
        if taken or word in ("--json", "--allow-unknown", "-h", "--help", "--base") or word.startswith("--base="):
            flags.append(word)
            taken = word == "--base"
        else:
            words.append(word)
    quoted = words if len(words) == 1 else [shlex.join(words)] if words else []
    return [*flags, "--", *quoted] if quoted else flags


def translate(text: str, base: str | None = None, allow_unknown: bool = False, check: bool = True) -> Translation:
    """The translation of a command.

    Raises:
        UserError: a variable that golf does not know (unless allowed), a value that is not one, an unknown base.
    """
    command = read_command(text)
    if command.processes is not None:
        for name in ("NPROC", "NUM_GPUS", "WORLD_SIZE"):
            command.variables.pop(name, None)
        command.variables["NPROC_PER_NODE"] = command.processes
    base, remark = _base_of(command, base)
    unknown = [name for name in (*command.variables, *command.unset) if not _is_known(name)]
    if unknown and not allow_unknown:
        raise UserError("\n".join(_unknown_line(name) for name in unknown))
    view = _view(command, base)
    apply_all(view)
    notes = [Note("experiment", "translated", remark), *view.notes]
    notes += [
        Note(name, "unset", f"the text does not give its value ({value})") for name, value in command.unset.items()
    ]
    notes += [Note(name, "unknown", "left out") for name in unknown if name in command.variables]
    overrides = [to_override(key, value) for key, value in view.overrides.items()]
    return Translation(base, overrides, notes, unknown, _errors(base, overrides) if check else [])


def apply_all(view: View) -> None:
    """Every variable of the view through its table or rule, in the order of the config."""
    for name, (key, kind) in DIRECT.items():
        if view.has(name):
            view.set(key, as_value(name, view.variables[name], kind))
            if name in REMARKS:
                view.note(name, "translated", REMARKS[name])
    for rule, names in RULES.items():
        if view.has(*names):
            _apply(rule, names, view)
    for name, value in view.variables.items():
        if name in OFF:
            off, text = OFF[name]
            is_off = value.strip("0.").lower() in ("", "false") if off == "0" else value.removesuffix(".0") == off
            view.note(name, "off" if is_off else "not expressed", "as in golf" if is_off else text)
    tables = (("no effect", INERT), ("ignored", OWN), ("later", LATER))
    for status, table in tables:
        for name, text in table.items():
            view.note(name, status, text)
    for name in view.variables:
        if _is_system(name):
            view.note(name, "ignored", "of the machine, its libraries or the launcher")


def _apply(rule: Rule, names: Sequence[str], view: View) -> None:
    """One rule; what it is given without changing anything is told as such."""
    before = dict(view.overrides)
    rule(view)
    if view.overrides == before:
        told = {note.name for note in view.notes}
        for name in names:
            if name not in told:
                view.note(name, "off", "as in the experiment")


def _view(command: PublishedCommand, base: str) -> View:
    from golf.config.compose import Composer

    composer = Composer("train")
    config = composer.compose([f"experiment={base}"])
    choices = composer.load([f"experiment={base}"]).hydra.runtime.choices
    return View(dict(command.variables), config, {str(key): str(value) for key, value in choices.items()})


def _base_of(command: PublishedCommand, base: str | None) -> tuple[str, str]:
    """The experiment to lay the command over, and why."""
    from golf.config.catalogue import options
    from golf.config.compose import conf_dir

    found = {option.name: option.path for option in options([conf_dir()])["experiment"]}
    if base is not None:
        name = base.removeprefix("experiment=")
        name = f"record/{name}" if f"record/{name}" in found else name
        if name not in found:
            raise UserError(f"translate: --base {base}: no such experiment; {offer(base, found)}; type --base baseline")
        return name, "values that the command does not give are this experiment's"
    for name, path in found.items():
        folder = published_folder(path) if name.startswith("record/") else ""
        if folder and folder in command.text:
            return name, "the command names this record's folder: values that it does not give are its script's"
    return "baseline", (
        "values that the command does not give are the root script's; for a record's own script type --base record/…"
    )


def published_folder(path: Path) -> str:
    """`published.folder` of a record's experiment, read as text."""
    match = re.search(r"^\s+folder:\s*[\"']?([^\"'#\n]+?)[\"']?\s*(#.*)?$", path.read_text(encoding="utf-8"), re.M)
    return match[1] if match and re.match(r"\d{4}-\d{2}-\d{2}_", match[1]) else ""


def _is_system(name: str) -> bool:
    return name in SYSTEM or name.startswith(SYSTEM_PREFIXES)


def _is_known(name: str) -> bool:
    return name in KNOWN or _is_system(name) or not name.isupper()


def _unknown_line(name: str) -> str:
    return (
        f"translate: {name}: a variable that golf does not know; {offer(name, KNOWN, limit=4)}; "
        "type --allow-unknown to leave it out"
    )


def _errors(base: str, overrides: Sequence[str]) -> list[str]:
    from golf.config.command import check_command

    return check_command("train", [f"experiment={base}", *overrides]).errors


def _as_text(found: Translation) -> str:
    lines = [f"# {note.name}: {note.status}: {note.text}" for note in found.notes]
    return "\n".join([found.line, *lines])


def _as_json(found: Translation) -> str:
    content: dict[str, Any] = {
        "command": found.line,
        "base": found.base,
        "overrides": found.overrides,
        "notes": [vars(note) for note in found.notes],
        "unknown": found.unknown,
        "errors": found.errors,
    }
    return json.dumps(content, indent=1)
