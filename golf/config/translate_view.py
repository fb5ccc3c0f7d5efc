"""What a translation rule sees: the variables of a command, the experiment they are laid over, and where it writes.

Invariant: every variable that is asked for through `has`, `number`, `flag`, `text` or `whole_numbers` ends up with
overrides, a note, or both; values that are no numbers are a UserError with the variable's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from golf.config.cross_checks import get
from golf.errors import UserError

STATUSES = ("translated", "off", "later", "ignored", "no effect", "not expressed", "unset", "unknown")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", "none", ""}


@dataclass
class Note:
    """One line about one variable."""

    name: str
    status: str
    text: str


@dataclass
class View:
    """Variables, base config and choices in; overrides and notes out."""

    variables: dict[str, str]
    base: dict[str, Any]
    choices: dict[str, str]
    overrides: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        return any(name in self.variables for name in names)

    def text(self, *names: str) -> str | None:
        """The value of the first of several synonyms that is given."""
        return next((self.variables[name] for name in names if name in self.variables), None)

    def number(self, *names: str) -> float | int | None:
        given = next((name for name in names if name in self.variables), None)
        return None if given is None else as_number(given, self.variables[given])

    def flag(self, name: str) -> bool | None:
        return as_flag(name, self.variables[name]) if name in self.variables else None

    def whole_numbers(self, *names: str) -> list[int]:
        """A list such as `9,10`."""
        given = next((name for name in names if name in self.variables), None)
        parts = [] if given is None else [part for part in self.variables[given].strip("[]").split(",") if part.strip()]
        return [int(as_number(str(given), part.strip())) for part in parts]

    def choose(self, group: str, option: str) -> None:
        """Selects an option of a config group, unless the base has it already."""
        if self.choices.get(group) != option:
            self.overrides[group] = option
            self.choices[group] = option

    def set(self, key: str, value: Any) -> None:
        self.overrides[key] = value

    def current(self, key: str) -> Any:
        """What a key will be: set by an earlier rule, or the base's value."""
        return self.overrides[key] if key in self.overrides else get(self.base, key)

    def note(self, name: str, status: str, text: str) -> None:
        assert status in STATUSES
        if name in self.variables:
            self.notes.append(Note(name, status, text))


def as_number(name: str, text: str) -> int | float:
    """An integer where the text is one (`524288`, `524_288`, `2e4`), else a float."""
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"translate: {name}={text}: a number is expected; type {name}=<number>") from None
    if value != value or abs(value) == float("inf"):
        raise UserError(f"translate: {name}={text}: a finite number is expected; type {name}=<number>")
    is_integer = value.is_integer() and "." not in text
    return int(value) if is_integer else value


def as_flag(name: str, text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise UserError(f"translate: {name}={text}: 0 or 1 is expected; type {name}=1")


def as_value(name: str, text: str, kind: str) -> Any:
    """A value of a direct translation: int, float, bool or text."""
    if kind == "bool":
        return as_flag(name, text)
    if kind == "text":
        return text
    number = as_number(name, text)
    if kind == "int" and number != int(number):
        raise UserError(f"translate: {name}={text}: a whole number is expected; type {name}={int(number)}")
    return int(number) if kind == "int" else number
