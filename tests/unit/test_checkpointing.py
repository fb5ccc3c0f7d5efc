"""Checkpoints: complete or absent, plain data only, and everything that a bit-exact resume needs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from golf.config.build import build
from golf.errors import UserError
from golf.pipeline.run_folder import silent
from golf.training.checkpointing import (
    find_checkpoint,
    load_weights,
    random_state,
    read_checkpoint,
    save_checkpoint,
    set_random_state,
)
from golf.training.session import open_session


@pytest.fixture
def session(start_run, tmp_path):
    """A session after one optimizer step."""
    run = start_run(tmp_path / "run")
    session = open_session(run.config, run.path, run.data(silent), silent, torch.device("cpu"))
    session.optimizer = build(run.config["optim"])(session.net)
    batch = session.stream.batch(0)
    session.net(batch.inputs_BT, batch.targets_BT).backward()
    session.optimizer.step()
    session.average.start(session.net)
    session.step = 1
    return session


def names(session) -> list[str]:
    return sorted(path.name for path in (session.folder / "checkpoints").iterdir())


def test_a_checkpoint_holds_everything_as_plain_data(session):
    path = save_checkpoint(session, None)
    assert path.name == "step_00000001"
    assert sorted(p.name for p in path.iterdir()) == ["meta.json", "state.pt", "weights.safetensors"]
    torch.load(path / "state.pt", weights_only=True)
    found = read_checkpoint(path)
    assert (found["step"], found["finished"]) == (1, False)
    assert all(torch.equal(found["weights"][name], value) for name, value in session.net.state_dict().items())
    assert found["average"].keys() == dict(session.net.named_parameters()).keys()
    assert found["optimizer"]["state"]
    assert find_checkpoint(session.folder) == path


def test_the_end_of_training_does_not_replace_a_checkpoint_of_the_same_step(session):
    save_checkpoint(session, None)
    end = save_checkpoint(session, None, finished=True)
    assert names(session) == ["latest", "step_00000001", "step_00000001_end"]
    assert find_checkpoint(session.folder) == end
    assert read_checkpoint(end)["finished"]
    assert (session.folder / "checkpoints" / "latest").read_text() == "step_00000001_end"


def test_only_the_newest_are_kept_and_leftovers_go(session):
    (session.folder / "checkpoints" / ".step_00000000.part").mkdir(parents=True)
    for session.step in (1, 2, 3, 10):
        save_checkpoint(session, None, keep=2)
    assert names(session) == ["latest", "step_00000003", "step_00000010"]


@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_full_disk_leaves_the_checkpoint_before(session, monkeypatch, write):
    """At each of its three files."""
    before = save_checkpoint(session, None)
    session.step, calls = 2, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) >= write:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError, match="no space left on the disk; the last finished state is untouched"):
            save_checkpoint(session, None)
    assert names(session) == ["latest", "step_00000001"]
    assert find_checkpoint(session.folder) == before
    assert read_checkpoint(before)["step"] == 1


def test_a_folder_without_its_last_file_is_no_checkpoint(session):
    (save_checkpoint(session, None) / "meta.json").unlink()
    assert find_checkpoint(session.folder) is None


def test_random_generators_go_on_where_they_were():
    state = random_state(torch.device("cpu"))
    draws = [(random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1)) for _ in range(2)]
    set_random_state(
        json.loads(json.dumps({k: v for k, v in state.items() if k != "torch"})) | {"torch": state["torch"]}
    )
    assert (random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1)) == draws[0]


def test_weights_must_fit():
    net = torch.nn.Linear(2, 3)
    with pytest.raises(UserError, match=r"missing bias; left over other; of another shape weight"):
        load_weights(net, {"weight": torch.zeros(2, 2), "other": torch.zeros(1)})


def test_a_path_that_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(UserError, match=r"is not a checkpoint \(no meta.json\)"):
        read_checkpoint(tmp_path)


def test_restoring_comes_before_every_other_callback_and_after_the_warm_up():
    from golf.pipeline.train import build_callbacks

    node = {"_target_": "golf.training.callbacks.warmup.WarmUpCallback", "steps": 1}
    together, *others = build_callbacks(
        {"w": node, "b": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/bpb"}}
    )
    found = [type(callback).__name__ for callback in together.callbacks]
    assert found[:2] == ["WarmUpCallback", "RestoreCallback"]
    assert sorted(found[2:]) == ["BudgetCallback", "HeartbeatCallback", "SparsityCallback"]
    assert [type(callback).__name__ for callback in others] == ["EarlyStopping"]
