"""scripts/wandb_workspace.py: the dashboard's specification is built and checked without a network or an account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from golf.training.wandb_record import figures, tables

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from fake_run import metric_lines, summary_of

REPOSITORY = Path(__file__).resolve().parents[2]
CURVES = {"step", "size/artifact_bytes"}  # the latter is logged by the callback of size forecasts

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # the package's own


@pytest.fixture(scope="module")
def made():
    pytest.importorskip("wandb_workspaces")
    import wandb_workspace

    return wandb_workspace.workspace("somebody", "golf")


@pytest.fixture(scope="module")
def spec(made) -> dict:
    import wandb_workspace

    found = wandb_workspace.specification(made)
    return json.loads(json.dumps(found))


def panels(spec: dict) -> list[dict]:
    return [panel for section in spec["spec"]["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def test_sections_and_panels(spec):
    sections = {
        section["name"]: len(section["panels"]) for section in spec["spec"]["section"]["panelBankConfig"]["sections"]
    }
    assert list(sections) == ["Ladder", "Size", "Throughput", "Quantisation", "Seeds"]
    assert min(sections.values()) >= 2
    assert (spec["entity"], spec["project"], spec["displayName"]) == ("somebody", "golf", "golf")


def test_every_panel_shows_what_golf_logs(spec):
    """A panel of a name that nothing logs would stay empty for ever."""
    import wandb_workspace

    summary = summary_of() | {"mfu": 0.4, "rules": {"failed": []}}
    summary["bytes_by_class"] = dict.fromkeys(wandb_workspace.CLASSES, 1)
    summary["ladder"] = [{**summary["ladder"][0], "stage": stage} for stage in wandb_workspace.RUNGS]
    known = {*figures(summary), *CURVES, *(key for line in metric_lines(200) for key in json.loads(line))}
    shown = set()
    for panel in panels(spec):
        config = panel["config"]
        axes = [config[key].removeprefix("summary:") for key in ("xAxis", "yAxis") if key in config]
        shown |= {*axes, *config.get("metrics", [])}
    assert shown <= known, shown - known
    assert len(shown) > 30
    text = json.dumps(spec)
    assert all(json.dumps(name)[1:-1] in text for name in tables(summary))
    assert "sensitivity/default" in text


def test_classes_and_rungs_are_those_of_the_field():
    import wandb_workspace

    from golf.codec.sections import TENSOR_CLASSES

    finer = {"attention": "attention_q", "mlp": "mlp_in"}
    assert {finer.get(name, name) for name in TENSOR_CLASSES} <= set(wandb_workspace.CLASSES)


def test_seeds_are_grouped_by_what_they_share(spec):
    seeds = [panel["config"] for panel in panels(spec) if "seeds" in panel["config"].get("chartTitle", "")]
    assert len(seeds) == 2
    assert all("entry" in json.dumps(config["groupBy"]) for config in seeds)


def test_the_package_reads_its_own_specification_back(made):
    import wandb_workspaces.workspaces as ws

    again = ws.Workspace._from_model(made._to_model())
    assert [section.name for section in again.sections] == [section.name for section in made.sections]
    assert [[type(p) for p in s.panels] for s in again.sections] == [[type(p) for p in s.panels] for s in made.sections]


def test_without_an_account_it_is_one_line(tmp_path):
    pytest.importorskip("wandb_workspaces")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "wandb_workspace.py"), "--entity", "somebody"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "type wandb login, or add --print" in line
