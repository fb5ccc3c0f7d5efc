"""The page on sweeps: its commands are accepted, and the engines it names are those that there are."""

from __future__ import annotations

import re

from documents import REPOSITORY, commands

from golf.config.command import check_command
from golf.config.engines.registry import NEEDED

PAGE = "docs/sweeps.md"


def test_commands_are_accepted() -> None:
    found = commands(PAGE)
    assert len(found) >= 10
    for words in found:
        if words[0] == "golf":
            words = ["python", "train.py", *words[2:]]
        assert words[:2] == ["python", "train.py"]
        overrides = [word for word in words[2:] if word != "-m"]
        assert check_command("train", overrides, multirun="-m" in words).errors == [], words


def test_engines_and_extras() -> None:
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    for engine, (_, extra) in NEEDED.items():
        name = engine.partition("=")[2]
        if engine.startswith("hydra/launcher"):
            assert re.search(rf"\\| `{name}` \\| [^|]+ \\| extra `{extra}` \\|", text), name
        else:
            assert engine in text
    for path in re.findall(r"`(scripts/[\w.]+)`", text):
        assert (REPOSITORY / path).is_file()
