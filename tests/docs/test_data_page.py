"""docs/data.md: every command is accepted by its parser, and every kind of finding is explained."""

import re
from pathlib import Path

import pytest
from documents import REPOSITORY, commands

from golf.data_commands.main import parser

PAGE = "docs/data.md"
DATA_COMMANDS = [words for words in commands(PAGE) if words[:2] == ["golf", "data"]]


@pytest.mark.parametrize("words", DATA_COMMANDS, ids=" ".join)
def test_commands_are_accepted(words: list[str]) -> None:
    if words[2:] == ["--help"]:
        with pytest.raises(SystemExit):
            parser().parse_args(words[2:])
    else:
        assert parser().parse_args(words[2:]).command == words[2]


def test_every_finding_has_a_row() -> None:
    source = (REPOSITORY / "golf/data_commands/verify.py").read_text(encoding="utf-8")
    checks = set(re.findall(r'Finding\("(\w+)"', source))
    assert len(checks) > 7
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page(), re.M))))
    assert checks <= explained


def page() -> str:
    return Path(REPOSITORY / PAGE).read_text(encoding="utf-8")
