"""Standard Trainer flags and callbacks: each works, or is refused in one line that names golf's own key."""

from __future__ import annotations

import json

import pytest
import torch

from golf.config.command import check_command
from golf.errors import UserError


def metrics(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return [line["train/loss"] for line in metrics(run) if "train/loss" in line]


def validations(run):
    return [line["step"] for line in metrics(run) if "val/bpb" in line]


MOVED_FLAGS = {
    "trainer.devices=2": "hardware.devices=2",
    "trainer.max_time=00:00:10:00": "budget.max_seconds=",
    "trainer.max_steps=100": "budget.max_steps=100",
    "trainer.max_epochs=1": "budget.max_steps=",
    "trainer.accumulate_grad_batches=4": "data.tokens_per_step=",
    "trainer.strategy=ddp": "hardware.devices=",
    "trainer.precision=bf16-mixed": "compute_dtype",
    "trainer.accelerator=gpu": "hardware=",
    "trainer.gradient_clip_val=1.0": "optim.",
    "trainer.num_nodes=2": "torchrun",
    "trainer.logger=false": "logger=",
}


@pytest.mark.parametrize("prefix", ["", "+"])
def test_flags_of_other_groups_are_refused_by_name(prefix):
    errors = check_command("train", ["experiment=smoke", *(prefix + flag for flag in MOVED_FLAGS)]).errors
    assert len(errors) == len(MOVED_FLAGS)
    for flag, instead in MOVED_FLAGS.items():
        (line,) = [error for error in errors if error.startswith(flag.split("=")[0])]
        assert instead in line.partition("type ")[2]


def test_a_flag_that_golf_does_not_take_is_refused():
    (line,) = check_command("train", ["experiment=smoke", "+trainer.limit_train_batches=3"]).errors
    assert "trainer.limit_train_batches" in line


def test_fast_dev_run_is_one_whole_step_and_leaves_nothing(tiny_run, tmp_path, capsys, monkeypatch):
    from golf.training.callbacks.throughput import ThroughputCallback

    steps = []
    seen = lambda self, session, trainer: steps.append((session.step, trainer.accumulate_grad_batches))  # noqa: E731
    monkeypatch.setattr(ThroughputCallback, "on_step_end", seen)
    run = tiny_run(tmp_path / "run", "trainer.fast_dev_run=true", "logger=wandb_offline")
    assert steps == [(1, 2)]
    assert "one step and one validation batch ran" in capsys.readouterr().out
    left = {path.name for path in run.path.iterdir()}
    assert not left & {"checkpoints", "stages", "metrics.jsonl", "wandb", "summary.json", "lightning_logs"}


def test_ckpt_path_continues_from_a_checkpoint_in_a_new_run(tiny_run, tmp_path):
    whole = tiny_run(tmp_path / "whole", "budget.max_steps=6")
    start = ("callbacks.checkpoint.every_steps=3", "callbacks.checkpoint.keep=9", "budget.max_steps=6")
    first = tiny_run(tmp_path / "first", *start)
    checkpoint = first.path / "checkpoints" / "step_00000003"
    second = tiny_run(tmp_path / "second", "budget.max_steps=6", f"ckpt_path={checkpoint}")
    assert [line["step"] for line in metrics(second)] == [4, 5, 6]
    assert losses(second) == losses(whole)[3:]
    read = lambda run: (run.path / "stages/train/weights.safetensors").read_bytes()  # noqa: E731
    assert read(second) == read(whole)


def test_ckpt_path_with_a_larger_budget_and_without_room(tiny_run, smoke_run, tmp_path):
    (checkpoint,) = smoke_run.path.glob("checkpoints/step_*4*")
    longer = tiny_run(tmp_path / "longer", f"ckpt_path={checkpoint}", "budget.max_steps=6")
    assert [line["step"] for line in metrics(longer)] == [5, 6]
    with pytest.raises(UserError, match=r"at step 4 .* type a larger one \(budget\.max_steps=8\)"):
        tiny_run(tmp_path / "same", f"ckpt_path={checkpoint}", "budget.max_steps=4")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("ckpt_path=nowhere",), "is not a checkpoint (no meta.json): type a folder like"),
        (("init_from=nowhere",), "does not exist: type a run folder, a checkpoint folder or an artifact"),
        (("init_from=a", "ckpt_path=b"), "leave init_from out"),
        (("trainer.profiler=fast",), "type trainer.profiler=simple"),
    ],
)
def test_bad_starting_points_are_one_line_before_a_run_is_made(script_here, tmp_path, flags, words):
    done = script_here("train", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not list(tmp_path.glob("runs/*/*/config.yaml"))


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_the_profiler_is_heard(tiny_run, tmp_path, capsys, profiler):
    run = tiny_run(tmp_path / "run", f"trainer.profiler={profiler}", "budget.max_steps=2")
    out = capsys.readouterr().out
    assert "run_training_batch" in out
    assert "run_training_batch" in (run.path / "log.txt").read_text()


def test_early_stopping_stops_on_the_validation_score(tiny_run, tmp_path, capsys):
    # A score that has to improve by 9 bits per byte never does: patience runs out at the third validation.
    run = tiny_run(
        tmp_path / "run",
        *("callbacks=early_stopping", "trainer.val_check_steps=2", "callbacks.early_stopping.patience=2"),
        *("+callbacks.early_stopping.min_delta=9", "budget.max_steps=50"),
    )
    assert validations(run) == [2, 4, 6]
    assert len(losses(run)) == 6
    assert "EarlyStopping ended training after step 6" in capsys.readouterr().out
    meta = json.loads(next((run.path / "checkpoints").glob("step_*/meta.json")).read_text())
    assert meta["finished"]
    assert (run.path / "stages/train/weights.safetensors").is_file()


def test_model_checkpoint_writes_its_file(tiny_run, tmp_path):
    run = tiny_run(tmp_path / "run", "callbacks=model_checkpoint", "trainer.val_check_steps=2")
    (file,) = run.path.rglob("*.ckpt")
    assert file.parent == run.path / "lightning" / "checkpoints"
    state = torch.load(file, weights_only=True)
    assert state["global_step"] in (2, 4)
    assert {name.removeprefix("net.") for name in state["state_dict"]} >= {"tok_emb.weight"}


@pytest.mark.parametrize("callbacks", ["early_stopping", "model_checkpoint"])
def test_a_monitor_without_validation_is_refused(callbacks):
    (line,) = check_command("train", ["experiment=smoke", f"callbacks={callbacks}"]).errors
    assert f"callbacks.{callbacks} would silently do nothing" in line
    assert "type trainer.val_check_steps=" in line
    assert not check_command("train", [f"callbacks={callbacks}", "trainer.val_check_steps=5"]).errors


def test_a_monitor_that_nothing_logs_is_refused():
    overrides = ["callbacks=early_stopping", "trainer.val_check_steps=5", "callbacks.early_stopping.monitor=val_bpb"]
    (line,) = check_command("train", overrides).errors
    assert line.endswith("type callbacks.early_stopping.monitor=val/bpb")


def test_overfit_batches_repeat(tiny_run, tmp_path):
    run = tiny_run(tmp_path / "run", "trainer.overfit_batches=2", "budget.max_steps=12", "schedule=none")
    assert losses(run)[-1] < losses(run)[0] - 0.5


def test_detect_anomaly_and_deterministic(tiny_run, tmp_path):
    flags = ("trainer.detect_anomaly=true", "trainer.deterministic=true", "budget.max_steps=2")
    try:
        run = tiny_run(tmp_path / "run", *flags)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not torch.is_anomaly_enabled()
    assert len(losses(run)) == 2


def test_validation_share(tiny_run, tmp_path):
    run = tiny_run(tmp_path / "run", "trainer.val_check_steps=4", "trainer.limit_val_batches=1", "budget.max_steps=4")
    assert validations(run) == [4]


def test_flags_on_the_command_line(script_here, tmp_path):
    done = script_here("train", "trainer.devices=2")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "golf: trainer.devices=2: devices are started by golf, one process each; type hardware.devices=2"
    ]
    assert not list(tmp_path.glob("runs"))


@pytest.mark.parametrize("callbacks", ["early_stopping", "model_checkpoint"])
def test_lightnings_callbacks_go_on_from_a_checkpoint(tiny_run, tmp_path, callbacks):
    flags = (f"callbacks={callbacks}", "trainer.val_check_steps=2", "callbacks.checkpoint.every_steps=3")
    first = tiny_run(tmp_path / "first", *flags)
    second = tiny_run(tmp_path / "second", *flags, f"ckpt_path={first.path}/checkpoints/step_00000003")
    assert validations(second) == [4]
