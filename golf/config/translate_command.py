"""Reads a published run command: `export A=1; B=2 \\ torchrun --nproc_per_node=8 train_gpt.py`, comments and all.

Nothing is executed and no file is opened. Invariant: every NAME=value of the text is found, in whatever place a shell
allows it; a value that the text itself does not give (`SEED=$SEED`) is reported as unset instead of guessed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from golf.errors import UserError

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
_PROCESSES = ("--nproc_per_node", "--nproc-per-node", "--num_processes", "--num-processes", "-nproc")
_RUNNERS = re.compile(r"(^|/)(python[\d.]*|torchrun|accelerate|uv|srun|deepspeed)$")
_OPERATORS = frozenset(";&|()<>")


@dataclass
class PublishedCommand:
    """Assignments in the order of the text (the last of a name counts), the scripts it runs, and its process count."""

    variables: dict[str, str] = field(default_factory=dict)
    unset: dict[str, str] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    processes: str | None = None
    text: str = ""


def read_command(text: str) -> PublishedCommand:
    """The parts of a command.

    Raises:
        UserError: a quote that is not closed, or text with neither NAME=value nor a Python command.
    """
    command = PublishedCommand(text=text)
    runs = False
    for words in _statements(text):
        for index, word in enumerate(words):
            assignment = _ASSIGNMENT.fullmatch(word)
            if assignment and not word.startswith("-"):
                _assign(command, *assignment.groups())
            elif word.endswith(".py"):
                command.scripts.append(word)
            runs |= bool(_RUNNERS.search(word))
            _count_processes(command, word, words[index + 1] if index + 1 < len(words) else "")
    if not command.variables and not command.unset and not runs:
        raise UserError(
            "translate: no NAME=value and no python or torchrun in the text; "
            "type golf translate 'NUM_LAYERS=11 torchrun --nproc_per_node=8 train_gpt.py'"
        )
    return command


def _statements(text: str) -> list[list[str]]:
    """Words of each statement: shell quoting, comments, line continuations; operators separate statements."""
    joined = re.sub(r"\\[ \t]*\r?\n", " ", text).replace("\r", "")
    found: list[list[str]] = []
    for block in _lines(joined):
        lexer = shlex.shlex(block, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            words = list(lexer)
        except ValueError as error:
            raise UserError(f"translate: {str(error).lower()} in {block.strip()[:60]!r}; close the quote") from error
        current: list[str] = []
        for word in words:
            if set(word) <= _OPERATORS:
                found.append(current)
                current = []
            else:
                current.append(word)
        found.append(current)
    return [words for words in found if words]


def _lines(text: str) -> list[str]:
    """Physical lines, joined again where a quote spans several of them."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and _open_quote(lines[-1]):
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    return lines


def _open_quote(text: str) -> bool:
    quote = ""
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (not index or text[index - 1].isspace()):
            return False
    return bool(quote)


def _assign(command: PublishedCommand, name: str, value: str) -> None:
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        variable, default = match[1] or match[3], match[2]
        if variable in command.variables:
            return command.variables[variable]
        if default is None:
            missing.append(variable)
        return default or ""

    filled = _VARIABLE.sub(replace, value)
    command.variables.pop(name, None)
    if missing or "$(" in value or "`" in value:
        command.unset[name] = value
    else:
        command.unset.pop(name, None)
        command.variables[name] = filled.strip()


def _count_processes(command: PublishedCommand, word: str, following: str) -> None:
    flag, _, value = word.partition("=")
    if flag not in _PROCESSES:
        return
    count = value or following
    for match in _VARIABLE.finditer(count):
        count = count.replace(match[0], command.variables.get(match[1] or match[3], match[2] or ""))
    command.processes = count or None
