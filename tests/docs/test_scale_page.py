"""The page on scale: its table is conf/hardware, its commands are accepted, what it names exists."""

from __future__ import annotations

import re

import pytest
from documents import REPOSITORY, commands

from golf.config.command import check_command
from golf.config.compose import Composer, conf_dir
from golf.size.measured import split_settings
from golf.size.plan import parser

PAGE = "docs/scale.md"
TEXT = (REPOSITORY / PAGE).read_text(encoding="utf-8")


def test_the_table_of_presets_is_that_of_conf() -> None:
    composer, rows = Composer("train"), []
    for path in sorted((conf_dir() / "hardware").glob("*.yaml")):
        node = composer.compose([f"hardware={path.stem}"])["hardware"]
        speed, clock, largest = node["relative_speed"], node["time_scale"], node["micro_batch_tokens"]
        known = speed is not None
        cells = [path.stem, str(node["devices"]), f"{speed:g}" if known else "unknown", f"×{clock:g}"]
        cells += [f"{speed * clock:g}" if known else "as written", f"{largest:,}" if largest else "as the data"]
        rows.append("| " + " | ".join([*cells, node["supports"]]) + " |")
    assert "\n".join(rows) in TEXT


def test_every_budget_is_explained() -> None:
    table = TEXT.split("## Budgets")[1].split("```")[0]
    for path in (conf_dir() / "budget").glob("*.yaml"):
        assert re.search(rf"^\| (\w+, )*{path.stem}(, \w+)* \|", table, re.MULTILINE), path.stem


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_commands_are_accepted(words) -> None:
    if words[0] == "torchrun":
        words = ["python", *words[words.index("train.py") :]]
    if words[:2] == ["golf", "plan"]:
        overrides = split_settings(parser().parse_intermixed_args(words[2:]).overrides)[1]
        words = ["python", "train.py", *overrides]
    if words[:2] == ["golf", "show"]:
        words = ["python", "train.py", *words[2:]]
    if words[0] == "python":
        assert check_command(words[1].removesuffix(".py"), words[2:]).errors == []
    else:
        assert words[:2] == ["golf", "runs"]


def test_files_exist() -> None:
    for name in re.findall(r"`((?:golf|tests|conf)/[\w/.]+)`", TEXT):
        assert (REPOSITORY / name).exists(), name
