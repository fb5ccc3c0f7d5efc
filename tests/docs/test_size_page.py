"""The page on bytes: its commands are accepted, and what it names exists."""

from __future__ import annotations

import re

from documents import REPOSITORY, blocks, commands

from golf.config.command import check_command
from golf.size.measured import split_settings
from golf.size.plan import parser

PAGE = "docs/size.md"


def test_commands_are_accepted() -> None:
    for words in commands(PAGE):
        if words[:2] == ["golf", "plan"]:
            asked = split_settings(parser().parse_intermixed_args(words[2:]).overrides)[1]
            words = ["python", "train.py", *(text for text in asked if not text.startswith("code="))]
        assert words[0] == "python"
        assert check_command(words[1].removesuffix(".py"), words[2:]).errors == []
    assert len(commands(PAGE)) == sum(block.strip().count("\n") + 1 for block in blocks(PAGE, "bash"))


def test_files_and_rungs_exist() -> None:
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:golf|benchmarks)/[\w/]+\.py)`", text):
        assert (REPOSITORY / name).is_file(), name
    from golf.size.fit import RUNGS

    assert all(f"**{rung}" in text for rung in RUNGS)
