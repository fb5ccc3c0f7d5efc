"""golf doctor: what it finds, how it words it, its exit code, and a dry run of every stage."""

from __future__ import annotations

import json
import shutil

import pytest

from golf import doctor, doctor_dry_run, doctor_environment
from golf.cli import main as golf
from golf.doctor import Line, guarded
from golf.errors import UserError


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_looking_only(capsys, tmp_path):
    assert golf(["doctor", "--no-dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    whats = {line["what"] for line in found["checks"]}
    assert whats >= {"python", "torch", "lightning", "cpu", "compiler", "codec zlib", "runs/", "data/", "config"}
    assert whats >= {"data sample", "data fineweb", "browser", "wandb"}
    assert {line["status"] for line in found["checks"]} <= {"ok", "warn"}
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_every_stage(capsys, tmp_path):
    lines = doctor_dry_run.dry_run(["experiment=baseline", "hardware=cpu"])
    assert [line.status for line in lines] == ["ok"] * 8, lines
    stages = ["train", "average", "calibrate", "quantise", "pack", "verify", "score"]
    assert [line.what for line in lines] == [f"run {stage}" for stage in [*stages, "report"]]
    assert "3 steps" in lines[0].detail
    assert "BPB" in lines[6].detail
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_fails_is_the_last_line(tmp_path):
    from golf.files import write_atomically

    done = {"version": 1, "result": {"steps": 3, "parameters": 10}, "seconds": 1.0}
    write_atomically(tmp_path / "stages" / "train" / "manifest.json", json.dumps(done))
    lines = doctor_dry_run.stage_lines(tmp_path, 2, ["golf: no space left"])
    assert [(line.status, line.what, line.detail) for line in lines] == [
        ("ok", "run train", "1.0 s, 3 steps, 10 parameters"),
        ("fail", "run average", "no space left"),
    ]


def test_errors_of_the_configuration_are_told_once_and_nothing_runs(capsys):
    assert golf(["doctor", "experiment=smok"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (config,) = [line for line in lines if " config " in line]
    assert config.startswith("fail")
    assert "experiment=smoke" in config
    assert any("not tried" in line for line in lines)
    assert "see the lines that begin with fail" in lines[-1]


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        (None, "fail", "not installed"),
        ("2.6.3", "fail", "malicious upload: change every credential"),
        ("2.5.0", "warn", "tested with >=2.6.6,<2.7"),
        ("2.6.6", "ok", "2.6.6"),
    ],
)
def test_versions(monkeypatch, version, status, words):
    monkeypatch.setattr(doctor_environment, "version_of", lambda name: version)
    line = doctor_environment.package("lightning", ">=2.6.6,<2.7")
    assert (line.status, words in line.detail) == (status, True)
    assert ("pip install 'lightning>=2.6.6,<2.7'" in line.todo) == (status != "ok")


def test_what_is_missing_says_what_to_type(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None)
    monkeypatch.setattr(doctor_environment, "version_of", lambda name: None)
    (compiler,) = doctor_environment.compiler()
    assert (compiler.status, "eager mode" in compiler.detail) == ("warn", True)
    (browser,) = doctor_environment.browser()
    assert (browser.status, "skipped" in browser.detail) == ("warn", True)
    tensorboard = next(line for line in doctor_environment.versions() if line.what == "tensorboard")
    assert (tensorboard.status, tensorboard.todo) == ("warn", "pip install tensorboard")


def test_a_codec_without_its_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "brotli", None)
    line = next(line for line in doctor_environment.compressors() if line.what == "codec brotli")
    assert line.status == "warn"
    assert "pip install" in line.todo


def test_a_folder_without_permission(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_environment.tempfile, "TemporaryFile", refuse)
    assert [(line.status, "not writable" in line.detail) for line in doctor_environment.disk()] == [("fail", True)] * 2


def test_shards(data_folder, smoke_run, tmp_path):
    folder = smoke_run.data().folder
    shown = doctor_environment.data(["data=fineweb", f"data.folder={folder}"])[-1]
    assert shown.status == "ok"
    assert "60,000 training tokens in 1 shards" in shown.detail
    missing = doctor_environment.data(["data=fineweb", f"data.folder={tmp_path}/none"])[-1]
    assert missing.status == "fail"
    assert doctor_environment.data()[-1].status == "ok"


def test_a_check_that_breaks_is_a_line():
    def refused():
        raise UserError("this is wrong; type that")

    def broken():
        raise ZeroDivisionError("no")

    assert guarded("disk", refused) == [Line("fail", "disk", "this is wrong; type that")]
    assert guarded("disk", broken) == [Line("fail", "disk", "ZeroDivisionError: no")]


def test_bad_flags_are_one_line(capsys):
    assert golf(["doctor", "--fast"]) == 2
    assert "golf doctor --help" in capsys.readouterr().err
    assert doctor.verdict([], no_dry_run=False).endswith("python train.py experiment=demo")
