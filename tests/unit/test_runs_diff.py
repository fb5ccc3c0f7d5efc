"""`golf runs diff`: every key that differs once, under its group, for experiments, runs, files and overrides."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from golf import cli
from golf.config.compose import compose
from golf.runs.diff import ABSENT, differences


def run(capsys, *argv):
    code = cli.main(["runs", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def found(capsys, left, right, *flags):
    code, out, err = run(capsys, "diff", str(left), str(right), "--json", *flags)
    assert (code, err) == (0, "")
    return {item["key"]: item for item in json.loads(out)["differences"]}


def test_experiments_side_by_side(capsys):
    code, out, _ = run(capsys, "diff", "baseline", "seq2048")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["baseline", "seq2048"]
    groups = [line for line in lines[1:] if not line.startswith(" ")]
    assert groups == ["run", "data", "optim", "derived"]
    assert ["data.seq_len", "1024", "2048"] in [line.split() for line in lines]
    assert ["optim.matrix_lr", "0.04", "0.032"] in [line.split() for line in lines]


def test_what_follows_is_told_too(capsys):
    items = found(capsys, "baseline", "layers11", "--parameters")
    assert items["model.num_layers"] == {
        "group": "model",
        "key": "model.num_layers",
        "only": None,
        "left": 9,
        "right": 11,
    }
    assert (items["model.parameters"]["left"], items["model.parameters"]["right"]) == (17_059_912, 20_734_552)
    assert "17,059,912" in run(capsys, "diff", "baseline", "layers11", "--parameters")[1]
    assert "model.parameters" not in found(capsys, "baseline", "layers11")


def test_options_with_other_keys(capsys):
    items = found(capsys, "baseline", "experiment=baseline schedule=warmdown_fraction model/mlp=leaky_relu2")
    assert items["schedule.lr.warmdown_steps"]["only"] == "left"
    assert items["schedule.lr.floor"]["only"] == "right"
    assert items["model.mlp._target_"]["group"] == "model/mlp"
    out = run(capsys, "diff", "baseline", "experiment=baseline model/mlp=leaky_relu2")[1]
    assert ["model.mlp._target_", "ReluPower", "LeakyReluPower"] in [line.split() for line in out.splitlines()]
    assert ["model.mlp.slope", "-", "0.5"] in [line.split() for line in out.splitlines()]


def test_a_run_folder_and_its_file_are_the_same(tmp_path, capsys):
    config = compose("train", ["experiment=smoke", "seed=7"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "no difference" in run(capsys, "diff", str(tmp_path), str(tmp_path / "config.yaml"))[1]
    assert set(found(capsys, tmp_path, "smoke")) == {"seed"}


def test_an_experiment_file_is_composed(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("# @package _global_\ndefaults:\n  - baseline\n  - _self_\nname: mine\noptim:\n  matrix_lr: 0.03\n")
    assert set(found(capsys, "baseline", mine)) == {"name", "optim.matrix_lr"}


def test_differences_are_symmetric_and_exact():
    left = {"a": 1, "b": {"c": True, "d": None}, "e": [1, 2]}
    right = {"a": 1.0, "b": {"c": 1, "f": {}}, "e": [1, 3]}
    items = {item.key: (item.left, item.right) for item in differences(left, right)}
    assert items == {"b.c": (True, 1), "b.d": (None, ABSENT), "e": ([1, 2], [1, 3])}
    assert {item.key for item in differences(right, left)} == set(items)
    assert differences(left, left) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["dif"], "type golf runs --help"),
        (["diff", "baseline"], "type golf runs diff --help"),
        (["diff", "baseline", "sq2048"], "nearest: seq2048"),
        (["diff", "baseline", "."], "not a run"),
        (["diff", "baseline", "no/such.yaml"], "cannot be read"),
        (["diff", "baseline", "experiment=baseline optim.matrx_lr=1"], "type optim.matrix_lr=1"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert err.startswith("golf: ")
    assert err.count("\n") == 1
    assert words in err


def test_no_torch():
    call = "main(['runs', 'diff', 'baseline', 'smoke'])"
    code = f"import sys; from golf.cli import main; {call}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
