"""The page on the referee: its commands parse, its rules are those there are, its example profile loads."""

from __future__ import annotations

import re

import yaml
from documents import REPOSITORY, blocks, commands

from golf.config.compose import compose
from golf.rules.audit import chosen_rules, parser
from golf.rules.profile import load_profile, make_profile
from golf.rules.registry import RULES

PAGE = "docs/audit.md"


def test_commands_are_accepted() -> None:
    kinds = set()
    for words in commands(PAGE):
        kinds.add(tuple(words[:2]))
        if words[:2] == ["golf", "audit"]:
            given = parser().parse_args(words[2:])
            chosen_rules(given.rules)
            if not given.profile.endswith(".yaml"):
                load_profile(given.profile)
        elif words[:2] == ["python", "train.py"]:
            assert compose("train", words[2:])["rules"]["name"] == "strict"
        else:
            assert words == ["golf", "ls", "rules"] or words == ["python", "benchmarks/referee.py"]
    assert ("golf", "audit") in kinds


def test_every_rule_has_a_row() -> None:
    text = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if re.match(r"\| [LH]\d", line)]
    assert set(re.findall(r"[LH]\d+", " ".join(rows))) == set(RULES)


def test_the_example_profile_loads() -> None:
    (body,) = blocks(PAGE, "yaml")
    assert make_profile(yaml.safe_load(body)).counts("L29")
