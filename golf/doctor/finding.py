"""What a check finds, and what all checks are told: one line per finding, one subject per call of `golf doctor`.

Invariant: a line that is not `ok` says why it matters and what to type (a test holds every check to it).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from golf.errors import GolfError, UserError

LOOK_SECONDS = 60.0  # everything but the dry run


@dataclass(frozen=True)
class Line:
    """One finding: what was looked at, what was found, why it matters, and what to type."""

    status: Literal["ok", "warn", "fail"]
    what: str
    detail: str
    todo: str = ""
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.status:<5} {self.what:<21} {self.detail}"
        text += f" ({self.why})" if self.why else ""
        return f"{text}  → {self.todo}" if self.todo else text


@dataclass
class Subject:
    """The run that was asked for: its overrides, its composed config (None if it has errors), and where it would run.

    `hardware`: the node with every `auto` resolved, or None with `refusal` saying why it cannot run here.
    """

    overrides: list[str]
    config_dirs: tuple[Path, ...] = ()
    errors: list[str] = field(default_factory=list)
    config: dict[str, Any] | None = None
    option: str = "auto"
    hardware: dict[str, Any] | None = None
    refusal: str = ""
    begun: float = field(default_factory=time.monotonic)

    @property
    def asked(self) -> bool:
        """Whether a run was named; without one the defaults of train.py are looked at, and smoke is tried."""
        return bool(self.overrides)

    @property
    def devices(self) -> int:
        return int((self.hardware or (self.config or {}).get("hardware") or {"devices": 1})["devices"])

    def seconds_left(self) -> float:
        """Of what looking may take; the checks that wait for others ask."""
        return LOOK_SECONDS - (time.monotonic() - self.begun)


def subject_of(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Subject:
    """Compose, check and resolve what was asked for; errors are kept, not raised."""
    from golf.config.command import check_command
    from golf.config.compose import Composer
    from golf.training.device import resolve_hardware

    found = Subject(list(overrides), tuple(config_dirs))
    found.errors = list(check_command("train", overrides, config_dirs).errors)
    if found.errors:
        return found
    composer = Composer("train", tuple(config_dirs))
    found.option = str(composer.load(list(overrides)).hydra.runtime.choices.get("hardware"))
    found.config = composer.compose(list(overrides))
    try:
        found.hardware = resolve_hardware(found.config["hardware"])
    except UserError as error:
        found.refusal = str(error)
    return found


def split_error(error: GolfError) -> tuple[str, str]:
    """golf's one line, parted into what was wrong and what to type."""
    text = " ".join(str(error).split())
    for mark in ("; type ", ": type ", "; ", ": "):
        what, found, todo = text.rpartition(mark)
        if found:
            return what, f"type {todo}" if "type" in mark else todo
    return text, ""
