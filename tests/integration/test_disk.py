"""A full disk or a folder that may not be written: the last good state survives, and the one line says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from golf.files import sha256_of

CLOSED = Path("/sys")
SAYS = "no space left on the disk; the last finished state is untouched: free some space and resume"


@pytest.fixture(scope="module")
def reference(warm):
    code, said = warm.train(warm.folder / "undisturbed", "through=pack")
    assert code == 0, said
    return sha256_of(warm.folder / "undisturbed/artifact/default/model.golf")


def last_line(said: str) -> str:
    assert "Traceback" not in said, said
    return said.splitlines()[-1]


def test_a_disk_that_is_full_again_and_again(warm, reference):
    """In a checkpoint, while a stage is written, and at its manifest; with space again the run ends as any other."""
    run = warm.folder / "full"
    code, said = warm.train(run, "through=pack", full_at="write:meta.json")
    assert code == 2, said
    assert last_line(said).startswith("golf: cannot write")
    assert SAYS in said
    assert not list((run / "checkpoints").glob("step_*"))
    code, said = warm.run(f"run={run}", full_at="rename:step_00000006")
    assert (code, SAYS in last_line(said)) == (2, True), said
    (kept,) = (run / "checkpoints").glob("step_*")
    assert json.loads((kept / "meta.json").read_text())["step"] == 3
    for event in ("write:train/average.safetensors", "write:average/manifest.json", "write:model.golf"):
        code, said = warm.run(f"run={run}", full_at=event)
        assert code == 2, f"{event}: {said}"
        assert "no space left on" in last_line(said).lower()
    code, said = warm.run(f"run={run}")
    assert code == 0, said
    assert sha256_of(run / "artifact/default/model.golf") == reference


@pytest.mark.parametrize("name", ["metrics.jsonl", "log.txt"])
def test_no_space_for_a_line(warm, name):
    """Files that grow line by line, on a device that is always full."""
    run = warm.folder / f"no_{name}"
    code, said = warm.train(run, "through=train", kill_at=["renamed:step_00000003", 9])
    (run / name).unlink()
    (run / name).symlink_to("/dev/full")
    code, said = warm.run(f"run={run}")
    assert code == 2, said
    assert f"cannot write {run / name}: {SAYS}" in last_line(said)
    assert (run / "checkpoints" / "step_00000003" / "meta.json").is_file()


@pytest.mark.skipif(not CLOSED.is_dir(), reason="needs a folder that not even root may write to")
def test_a_stage_that_may_not_be_written(warm):
    run = warm.folder / "closed"
    code, said = warm.train(run, "through=train")
    assert code == 0, said
    (run / "stages" / "average").symlink_to(CLOSED)
    code, said = warm.run(f"run={run}", "through=average")
    assert code == 2, said
    assert "no permission to write" in last_line(said)
    assert (run / "stages/train/manifest.json").is_file()


@pytest.mark.skipif(not CLOSED.is_dir(), reason="needs a folder that not even root may write to")
def test_a_new_run_where_nothing_may_be_written(warm):
    code, said = warm.train(CLOSED / "run", "through=train")
    assert code == 2, said
    assert "no permission to write" in last_line(said)
    assert "choose a writable folder with hydra.run.dir=<folder>" in said
