"""Golden files: the resolved config of every experiment, and the command line's surface.

A difference is either a mistake or a decision: `UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew, and the
diff of the commit then shows what changed for users.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from golf.cli import COMMANDS, MODULES, available
from golf.config.catalogue import options
from golf.config.compose import Composer, conf_dir

HERE = Path(__file__).parent
# Of the records one of each family: all 46 would only repeat what tests/contracts/test_records.py checks.
ANCHORS = ("record/0322_ema_gptq_lite", "record/0409_loop35_parallel", "record/0427_lqer_sparse_gate_hp")
ALL = [option.name for option in options([conf_dir()]).get("experiment", [])]
EXPERIMENTS = [name for name in ALL if name in ANCHORS or not name.startswith(("record/", "family/"))]


def compare(name: str, text: str) -> None:
    path = HERE / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path.name} is missing; run: UPDATE_GOLDEN=1 pytest tests/golden"
    assert text == path.read_text(encoding="utf-8"), "run: UPDATE_GOLDEN=1 pytest tests/golden, and read the diff"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments(experiment):
    config = Composer("train").compose([f"experiment={experiment}"])
    compare(f"experiment/{experiment}.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


@pytest.mark.parametrize("script", ["export", "evaluate"])
def test_scripts(script):
    config = Composer(script).compose([])
    compare(f"{script}.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def test_every_golden_experiment_still_exists():
    stored = {
        path.relative_to(HERE / "experiment").with_suffix("").as_posix() for path in HERE.glob("experiment/**/*.yaml")
    }
    assert stored <= set(EXPERIMENTS)


def test_command_line_surface():
    lines = []
    for name, text in available().items():
        lines.append(f"golf {name}: {text}")
        if name in COMMANDS:
            for action in COMMANDS[name][1]()._actions:
                flags = ", ".join(action.option_strings) or action.dest
                choices = f" {{{','.join(map(str, action.choices))}}}" if action.choices else ""
                lines.append(f"  {flags}{choices}")
        else:
            lines.append(f"  {MODULES[name][0]}")
    compare("cli.txt", "\n".join(lines) + "\n")
