"""Loggers: metrics.jsonl is always written, W&B and TensorBoard files are read back, no login ends a run at once."""

from __future__ import annotations

import json
import struct
import sys
import time

import pytest

from golf.errors import UserError
from golf.training.login import require_login, wandb_login, wandb_mode
from golf.training.wandb_record import figures, tables

BLOCK = 32768


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def wandb_records(path):
    """Records of a .wandb file: a 7-byte header, then 32 KiB blocks of (crc, length, kind) chunks of protobufs."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts, records = path.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        position += 7
        parts += content[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or the last chunk
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


def values_of(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_jsonl_is_always_written(smoke_run):
    lines = [json.loads(line) for line in (smoke_run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert set(lines[0]) >= {"step", "seconds", "tokens", "train/loss", "lr", "tokens_per_second", "step_ms"}


def contents(path):
    """What a .wandb file holds, by kind: the run, its config, history, summary and artifacts."""
    found = {"run": None, "config": {}, "metrics": [], "summary": {}, "artifacts": []}
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = found["run"] or record.run
            found["config"] |= values_of(record.run.config.update)
        elif kind == "config":
            found["config"] |= values_of(record.config.update)
        elif kind == "history":
            found["metrics"].append(values_of(record.history.item))
        elif kind == "summary":
            found["summary"] |= values_of(record.summary.update)
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(record.request.log_artifact.artifact)
    return found


def test_an_offline_wandb_run_holds_config_metrics_ladder_and_artifacts_with_lineage(tiny_run, tmp_path):
    pytest.importorskip("wandb")
    from golf.runs.library import read_row

    folder = tmp_path / "multirun_1" / "0"
    run = tiny_run(folder, "through=pack", "logger=wandb_offline", "logger.wandb.tags=[tiny]", "seed=7")
    kept = (folder / "wandb" / "id").read_text()
    (file,) = (folder / "wandb").glob(f"offline-run-*/run-{kept}.wandb")
    seen = contents(file)
    begun, config, summary, models = seen["run"], seen["config"], seen["summary"], seen["artifacts"]
    assert (begun.project, begun.run_group, begun.job_type) == ("golf", "multirun_1", "train")
    assert list(begun.tags) == ["tiny"]
    assert begun.run_id == kept
    assert config["seed"] == 7
    assert config["entry"] == read_row(folder).config_hash  # what its seeds share
    assert config["model"]["width"] == run.config["model"]["width"]
    losses = {line["step"]: line["train/loss"] for line in seen["metrics"] if "train/loss" in line}
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses == {line["step"]: line["train/loss"] for line in logged if "train/loss" in line}
    told = json.loads((folder / "summary.json").read_text())
    assert {f"ladder/{rung['stage']}/bpb": rung["bpb"] for rung in told["ladder"]}.items() <= summary.items()
    assert summary["size/total_bytes"] == told["total_bytes"]
    assert summary["size/embedding"] == told["bytes_by_class"]["embedding"]
    logged = {name.partition(".")[0] for line in seen["metrics"] for name in line}
    assert {"ladder/table", "size/by_class", "sensitivity/default"} <= logged
    models = [(a.name, a.type, [entry.path for entry in a.manifest.contents]) for a in models if a.type == "model"]
    assert models == [(f"model-{kept}", "model", ["model.golf"])]

    (file,) = (folder / "wandb").glob(f"offline-run-*/run-{kept}-default.wandb")
    export = contents(file)
    assert export["run"].job_type == "export"
    assert export["run"].run_group == "multirun_1"
    used, made = export["artifacts"]
    assert (used.name, used.type, used.use_after_commit) == (f"model-{kept}", "model", True)
    assert used.digest == next(a.digest for a in seen["artifacts"] if a.type == "model")
    assert (made.name, made.type) == (f"submission-{kept}", "submission")
    assert [entry.path for entry in made.manifest.contents] == ["train_gpt.py"]
    assert json.loads(made.metadata)["total_bytes"] == told["total_bytes"]


def test_tables_and_figures_are_those_of_the_summary():
    ladder = [
        {"stage": "raw", "bpb": 2.0, "nats_per_token": 4.0},
        {"stage": "x", "bpb": None, "nats_per_token": None},
        {"stage": "sliding", "bpb": 1.5, "nats_per_token": 3.0},
    ]
    summary = {
        "ladder": ladder,
        "total_bytes": 10,
        "bytes_by_class": {"code": 4, "mlp": 6},
        "rules": {"failed": ["L7"]},
    }
    assert figures(summary) == {
        **{"ladder/raw/bpb": 2.0, "ladder/raw/nats_per_token": 4.0, "ladder/sliding/bpb": 1.5},
        **{"ladder/sliding/nats_per_token": 3.0, "bpb": 1.5, "rules_failed": 1},
        **{"size/total_bytes": 10, "size/code": 4, "size/mlp": 6},
    }
    found = tables(summary)
    assert [row[2] for row in found["ladder/table"][1]] == [None, None, -0.5]
    assert found["size/by_class"][1] == [["mlp", 6, 0.6], ["code", 4, 0.4]]
    assert (figures({}), tables({})) == ({}, {})


def test_a_service_that_refuses_does_not_end_an_export(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from types import SimpleNamespace

    import golf.training.loggers as loggers
    from golf.training.wandb_record import log_submission

    def refuse(*_, **__):
        raise RuntimeError("no\nroute")

    monkeypatch.setattr(loggers, "begin_wandb", refuse)
    said = []
    node = {"_target_": "golf.training.loggers.wandb_logger", "offline": True}
    (tmp_path / "file").write_bytes(b"x")
    kept = {"path": tmp_path, "code": lambda _: tmp_path / "file", "artifact": lambda _: tmp_path / "file"}
    for log_model, words in ((False, []), (True, ["submission: not logged to W&B: no route"])):
        logger = {"wandb": {**node, "log_model": log_model}, "none": None}
        config = {"name": "x", "export": "default", "logger": logger}
        log_submission(SimpleNamespace(config=config, say=said.append, **kept), "default", {})
        assert said == words


def test_wandb_disabled_by_its_own_variable(tiny_run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = tiny_run(tmp_path / "run", "logger=wandb")
    assert (run.path / "metrics.jsonl").is_file()
    assert not list(run.path.glob("wandb/*run-*"))
    import os

    assert os.environ["WANDB_MODE"] == "disabled"


def test_a_run_that_failed_before_does_not_get_the_next_ones_metrics(tiny_run, tmp_path):
    wandb = pytest.importorskip("wandb")
    left = wandb.init(mode="disabled", dir=tmp_path)
    tiny_run(tmp_path / "run", "logger=wandb_offline", "budget.max_steps=2")
    assert wandb.run is not left
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 1


def test_tensorboard_events(tiny_run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tiny_run(tmp_path / "run", "logger=tensorboard", "through=average", "trainer.val_check_steps=2")
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx({line["step"]: line["train/loss"] for line in lines if "train/loss" in line})
    assert [event.step for event in events.Scalars("val/bpb")] == [2, 4]
    assert len(events.Scalars("ladder/averaged/bpb")) == 1


def test_online_without_login_is_refused_before_anything_is_done(script, tmp_path):
    begun = time.monotonic()
    done = script("train", "logger=wandb")
    seconds = time.monotonic() - begun
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "type wandb login" in line
    assert "logger=wandb_offline" in line
    assert not list(tmp_path.glob("runs/*/*/config.yaml"))
    assert seconds < 10


def test_where_a_login_is_looked_for(monkeypatch, tmp_path):
    online = {"wandb": {"_target_": "golf.training.loggers.wandb_logger", "offline": False}}
    with pytest.raises(UserError, match="wandb login"):
        require_login(online)
    require_login({"wandb": {**online["wandb"], "offline": True}, "none": None})
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password " + "a" * 40)
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert wandb_login() == str(netrc)
    require_login(online)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_login() is None
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert wandb_login() == "WANDB_API_KEY"


@pytest.mark.parametrize(
    ("variable", "offline", "mode"),
    [("", False, "online"), ("", True, "offline"), ("offline", False, "offline"), ("disabled", True, "disabled")],
)
def test_modes(monkeypatch, variable, offline, mode):
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert wandb_mode(offline) == mode


def test_tensorboard_missing_is_one_line(monkeypatch, tmp_path):
    from golf.training.loggers import tensorboard_logger

    for name in ("lightning.pytorch.loggers.tensorboard", "lightning.pytorch.loggers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        tensorboard_logger(tmp_path)
