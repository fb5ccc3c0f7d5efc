"""docs/doctor.md: every command is accepted, every kind of finding has its row, the table of pairs is the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from documents import REPOSITORY, commands

from golf.config.command import check_command
from golf.doctor.command import parser, require_arguments
from golf.doctor.packages import KNOWN_BAD

PAGE = "docs/doctor.md"
TEXT = (REPOSITORY / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_commands_are_accepted(words: list[str]) -> None:
    assert words[:2] == ["golf", "doctor"]
    arguments = parser().parse_intermixed_args(words[2:])
    require_arguments(arguments)
    assert check_command("train", arguments.overrides).errors == []


def test_every_option_is_explained() -> None:
    options = [text for action in parser()._actions for text in action.option_strings if text.startswith("--")]
    assert [text for text in options if text not in TEXT and text not in ("--help", "--config-dir")] == []


def test_every_finding_has_a_row() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.M)
    explained = set(re.findall(r"`([^`]+)`", "".join(rows)))
    named = set()
    for path in Path(REPOSITORY / "golf/doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Line"
            if made and isinstance(node.args[1], ast.Constant):
                named.add(node.args[1].value)
    assert len(named) > 20
    assert named - explained == set()


def test_the_table_of_pairs() -> None:
    for pair in KNOWN_BAD:
        both = f"{pair.package} {pair.versions}" + (f" with {pair.other} {pair.other_versions}" if pair.other else "")
        assert f"| {both} | {pair.why} | {pair.evidence} |" in TEXT
