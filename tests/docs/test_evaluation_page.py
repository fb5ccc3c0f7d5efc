"""docs/evaluation.md: its commands are accepted, and the options and files that it names exist."""

from __future__ import annotations

import re

from documents import REPOSITORY, commands

from golf.config.command import check_command
from golf.evaluation.sliding import SLIDING_HEADS, SLIDING_TAILS

PAGE = "docs/evaluation.md"


def test_commands_are_accepted() -> None:
    found = [words for words in commands(PAGE) if words[1] == "evaluate.py"]
    assert len(found) == 6
    for words in found:
        assert check_command("evaluate", words[2:]).errors == []


def test_files_and_options_exist() -> None:
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    for name in re.findall(r"(?:golf|benchmarks)/[\w/]+\.py", text):
        assert (REPOSITORY / name).is_file(), name
    rows = re.findall(r"^\| (`[\w`, ]+`) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    shipped = {path.stem for path in (REPOSITORY / "conf" / "eval").glob("*.yaml")}
    assert shipped - {"as_run", "none"} <= named
    assert set(re.findall(r"eval\.tail=(\w+)", text)) == set(SLIDING_TAILS) - {"exact"}
    assert set(re.findall(r"eval\.head=(\w+)", text)) == set(SLIDING_HEADS) - {"exact"}
