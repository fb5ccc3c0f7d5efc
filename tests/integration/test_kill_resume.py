"""Killed at any moment and resumed, a run under a step budget gives the same artifact bytes as an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from golf.files import sha256_of

WRITTEN = ("artifact/default/model.golf", "submission/default/train_gpt.py", "stages/average/weights.safetensors")
# In the order in which one run, resumed after each, comes to them.
IN_TRAINING = (
    "write:state.pt",  # inside the first checkpoint: there is nothing to go on from yet
    "rename:step_00000003",
    "renamed:step_00000003",  # complete, but not yet named by `latest`
    "step:5",
    "write:meta.json",
    "rename:latest",
    "step:7",
    "rename:step_00000008_end",
    "remove:step_00000003",
    "write:train/average.safetensors",
    "rename:train/manifest.json",
)
AFTER_TRAINING = (
    "write:average/weights.safetensors",
    "rename:average/manifest.json",
    "rename:calibrate/manifest.json",
    "write:quantise/quantised.golf",
    "write:model.golf",
    "rename:train_gpt.py",
    "rename:pack/manifest.json",
    "rename:verify/manifest.json",
    "process:golf.pipeline.scoring",
    "rename:score/manifest.json",
    "rename:summary.json",
)


@pytest.fixture(scope="module")
def reference(warm):
    """A run that nothing disturbs, and the events it goes through."""
    folder = warm.folder / "reference"
    code, said = warm.train(folder, trace=str(warm.folder / "trace"))
    assert code == 0, said
    return folder


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: line["train/loss"] for line in lines}


def assert_same(run: Path, reference: Path) -> None:
    for name in WRITTEN:
        assert sha256_of(run / name) == sha256_of(reference / name), name
    assert losses(run) == losses(reference)
    ladders = [json.loads((folder / "summary.json").read_text())["ladder"] for folder in (run, reference)]
    assert [(e["stage"], e["bpb"]) for e in ladders[0]] == [(e["stage"], e["bpb"]) for e in ladders[1]]
    assert not [path for path in run.rglob("*") if path.name.endswith(".part")]


def test_the_points_are_events_of_a_whole_run(warm, reference):
    events = (warm.folder / "trace").read_text().splitlines()
    assert not {*IN_TRAINING, *AFTER_TRAINING} - set(events)


def test_sigkill_at_every_stage_changes_no_byte(warm, reference):
    """22 kills in one run: each process is killed at the next point, the one after it goes on."""
    run = warm.folder / "killed"
    points = [*IN_TRAINING, *AFTER_TRAINING]
    code, said = warm.train(run, kill_at=[points[0], signal.SIGKILL])
    assert code == -signal.SIGKILL, said
    for point in points[1:]:
        code, said = warm.run(f"run={run}", kill_at=[point, signal.SIGKILL])
        assert code == -signal.SIGKILL, f"{point} was not reached: {said}"
    code, said = warm.run(f"run={run}")
    assert code == 0, said
    assert_same(run, reference)


def test_signals_end_with_a_checkpoint_one_line_and_their_exit_code(warm, reference):
    run = warm.folder / "stopped"
    code, said = warm.train(run, kill_at=["step:1", signal.SIGTERM])
    assert code == 143, said
    go_on = "go on with: python train.py run="
    assert said.splitlines()[-1] == f"golf: stopped by SIGTERM after step 3; {go_on}stopped"
    assert (run / "checkpoints" / "step_00000003" / "meta.json").is_file()
    later = {"step:4": 2, "step:7": 15, "write:model.golf": 15, "process:golf.pipeline.scoring": 2}
    for point, number in later.items():
        code, said = warm.run(f"run={run}", kill_at=[point, number])
        assert code == 128 + number, said
        last = said.splitlines()[-1]
        assert last.startswith(f"golf: stopped by {signal.Signals(number).name}"), said
        assert f"{go_on}{run}" in last
        assert "Traceback" not in said
    code, said = warm.run(f"run={run}")
    assert code == 0, said
    assert_same(run, reference)


def test_sigterm_from_outside(warm):
    """A run that nothing limits, stopped from outside as a job scheduler does."""
    run = warm.folder / "endless"
    started = warm.start(
        *("experiment=smoke", "budget=unlimited", "hardware=cpu", "hardware.threads=1", "data.train_tokens=60000"),
        *("data.val_tokens=4000", warm.data, f"hydra.run.dir={run}"),
    )
    wait_for(run / "metrics.jsonl", '"step": 3')
    os.kill(started.pid, signal.SIGTERM)
    code, said = started.wait()
    assert code == 143, said
    (checkpoint,) = (run / "checkpoints").glob("step_*")
    step = json.loads((checkpoint / "meta.json").read_text())["step"]
    assert f"golf: stopped by SIGTERM after step {step}" in said.splitlines()[-1]


def test_a_time_budget_goes_on_from_the_seconds_already_used(warm):
    run = warm.folder / "timed"
    timed = ("budget.max_steps=0", "budget.max_seconds=2.0", "through=train", "callbacks.checkpoint.every_steps=5")
    code, said = warm.train(run, *timed, kill_at=["renamed:step_00000010", signal.SIGKILL])
    assert code == -signal.SIGKILL, said
    before = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    code, said = warm.run(f"run={run}")
    assert code == 0, said
    seconds = json.loads((run / "stages" / "train" / "manifest.json").read_text())["result"]["train_seconds"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(lines))
    after = next(line["seconds"] for line in lines if line["step"] > 10)
    assert before <= after <= 2.0
    assert 1.0 < seconds <= 2.1
    code, said = warm.run(f"run={run}")  # finished: nothing is trained again
    assert code == 0
    assert "training" not in said


def wait_for(path: Path, text: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text} did not appear in {path}")
