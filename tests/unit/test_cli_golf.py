"""The `golf` command: output, exit codes, one line per error, and what it must not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from golf import cli


def run(capsys, *argv):
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_lists_only_what_exists(capsys, monkeypatch):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f"  {name}" in out for name in ("ls", "show", "check"))
    monkeypatch.setitem(cli.MODULES, "flyhome", ("golf.no_such_module:main", "nothing"))
    assert "flyhome" not in cli.help_text()
    assert run(capsys)[1] == out
    assert run(capsys, "--version")[1].startswith("golf ")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["shw"], "nearest: show"),
        (["ls", "modl"], "nearest: model"),
        (["ls", "--jsn"], "type golf ls --help"),
        (["show", "experiment=smok"], "type experiment=smoke"),
        (["check", "optim.matrx_lr=1"], "type optim.matrix_lr=1"),
        (["check", "--for", "exprt"], "invalid choice"),
        (["check", "--config-dir", "no/such/folder"], "no such folder"),
        (["check", "seed=1,2"], "type -m seed=1,2"),
    ],
)
def test_errors_are_one_line_and_exit_2(capsys, argv, words):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert err.startswith("golf: ")
    assert err.count("\n") == 1
    assert words in err


def test_ls(capsys):
    code, out, _ = run(capsys, "ls")
    assert code == 0
    assert out.startswith("experiment=\n")
    listed = json.loads(run(capsys, "ls", "optim", "--json")[1])
    (entry,) = [item for item in listed["optim"] if item["name"] == "muon_adam"]
    assert "Muon" in entry["description"]
    assert set(json.loads(run(capsys, "ls", "model", "--json")[1])) >= {"model", "model/attention"}


def test_show(capsys):
    shown = json.loads(run(capsys, "show", "experiment=smoke", "model.width=64", "--json")[1])
    assert shown["config"]["model"]["width"] == 64
    assert shown["derived"]["model.head_width"] == 32
    from omegaconf import OmegaConf

    assert OmegaConf.create(run(capsys, "show", "experiment=smoke")[1])["name"] == "smoke"
    assert json.loads(run(capsys, "show", "--json")[1])["derived"]["model.parameters"] == 17_059_912


def test_a_model_that_cannot_be_built_is_one_line(capsys):
    for override, word in (("model/depth=loop", "num_layers=6"), ("model.mlp=null", "TypeError")):
        layers = "model.num_layers=4" if "loop" in override else "model.num_layers=2"
        code, _, err = run(capsys, "show", override, layers, "--json")
        assert (code, err.count("\n")) == (2, 1)
        assert word in err


def test_check(capsys):
    assert run(capsys, "check", "experiment=smoke")[0] == 0
    assert run(capsys, "check", "-m", "experiment=smoke", "seed=1,2", "optim.matrix_lr=.02,.04")[0] == 0
    code, _, err = run(capsys, "check", "experiment=smok", "optim.matrix_lr=fast", "trainer.devices=2", "name=3")
    assert code == 2
    assert len(err.splitlines()) == 4
    assert all(line.startswith("golf: ") for line in err.splitlines())
    code, out, _ = run(capsys, "check", "--json", "seed=x")
    assert code == 2
    assert json.loads(out)["ok"] is False
    assert run(capsys, "check", "--for", "export", "run=x")[0] == 0
    assert "run is required" in run(capsys, "check", "--for", "export")[2]


def test_modules_are_called_with_their_arguments(capsys, monkeypatch):
    monkeypatch.setitem(cli.MODULES, "sample", ("golf.stand_in:main", "a stand-in"))
    monkeypatch.setattr(cli, "available", lambda: {"sample": "a stand-in"})
    stand_in = type(sys)("golf.stand_in")
    stand_in.main = lambda argv: print(argv) or 3
    monkeypatch.setitem(sys.modules, "golf.stand_in", stand_in)
    assert run(capsys, "sample", "artifact=x", "--n", "3")[:2] == (3, "['artifact=x', '--n', '3']\n")


def test_unexpected_errors_are_ours(capsys, monkeypatch):
    monkeypatch.setattr(cli, "run", lambda argv: 1 / 0)
    code, _, err = run(capsys, "ls")
    assert code == 1
    assert "ZeroDivisionError" in err
    monkeypatch.setattr(cli, "run", lambda argv: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(capsys, "ls")[0] == 130


@pytest.mark.parametrize("argv", [["--help"], ["ls"], ["show", "experiment=smoke"], ["check"], ["check", "optm=1"]])
def test_neither_torch_nor_lightning_is_imported(argv):
    code = (
        "import sys; from golf.cli import main; main(sys.argv[1:]); "
        "print({'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "set()"


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m golf.cli ls | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
