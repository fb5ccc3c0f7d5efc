"""A run and its exported file are the same program: the same losses, scores and artifact, without golf in sight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import golf
from golf.errors import VerificationFailed
from golf.pipeline.run_folder import open_run_folder
from golf.submission.flatten import write_submission
from golf.submission.verify import first_losses, run_alone, verify_submission

ROOT = Path(golf.__file__).resolve().parent.parent
SMOKE = ["experiment=smoke", "hardware=cpu", "hardware.threads=1", "hardware.compute_dtype=float32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished smoke run with validation in between."""
    folder = tmp_path_factory.mktemp("export")
    command = [sys.executable, str(ROOT / "train.py"), *SMOKE, "trainer.val_check_steps=8"]
    command += [f"data.folder={folder}/data", f"hydra.run.dir={folder}/run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "run"


@pytest.fixture(scope="module")
def data_options(run) -> list[str]:
    (folder,) = (path.parent for path in (run.parent / "data").glob("*/tokenizer.json"))
    return ["--data", str(folder)]


def code_of(run: Path) -> Path:
    return run / "submission" / "default" / "train_gpt.py"


def artifact_of(run: Path) -> Path:
    return run / "artifact" / "default" / "model.golf"


def test_verification_passes(run):
    found = verify_submission(code_of(run), artifact_of(run), run)
    assert found["bit_equal"]
    assert found["same_artifact"]
    assert found["steps"] == 10
    assert len(found["bpb"]) == 2


def test_the_whole_program_gives_the_same_run(run, data_options, tmp_path):
    """All twenty losses, the scores and the artifact's bytes."""
    results = run_alone(code_of(run), [*data_options, "--output", str(tmp_path / "model.golf")])
    assert {step["step"]: step["train_loss"] for step in results["steps"]} == first_losses(run, 20)
    assert (tmp_path / "model.golf").read_bytes() == artifact_of(run).read_bytes()
    ladder = {entry["stage"]: entry["bpb"] for entry in json.loads((run / "summary.json").read_text())["ladder"]}
    scores = {(score["weights"], score["name"]): score["bpb"] for score in results["scores"]}
    assert scores[("averaged", "contiguous")] == pytest.approx(ladder["averaged"], abs=1e-9)
    assert scores[("artifact", "contiguous")] == pytest.approx(ladder["quantised"], abs=1e-9)
    assert scores[("artifact", "sliding")] == pytest.approx(ladder["sliding"], abs=1e-9)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validated = {entry["step"]: entry["val/bpb"] for entry in metrics if "val/bpb" in entry}
    for step in (8, 16):
        assert scores[(f"step:{step}", "contiguous")] == pytest.approx(validated[step], abs=1e-6)
    assert results["artifact_bytes"] == artifact_of(run).stat().st_size
    assert results["code_bytes"] == code_of(run).stat().st_size


def test_two_ranks_are_the_same_program(run, data_options, tmp_path):
    """Under torchrun: losses up to the order of sums, one artifact, and the same score whoever computes it."""
    options = [*data_options, "--output", str(tmp_path / "model.golf"), "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(code_of(run))]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout.strip().splitlines()[-1])
    losses = {step["step"]: step["train_loss"] for step in results["steps"]}
    assert losses == pytest.approx(first_losses(run, 20), rel=1e-5)
    assert losses[1] == pytest.approx(first_losses(run, 1)[1], rel=1e-6)
    scores = {(score["weights"], score["name"]): score for score in results["scores"]}
    alone = run_alone(code_of(run), [*data_options, "--eval-only", str(tmp_path / "model.golf")])["scores"]
    for score in alone:
        assert scores[("artifact", score["name"])]["bpb"] == pytest.approx(score["bpb"], abs=1e-9)
        assert score["coverage"]["scored_twice"] == 0


def test_writing_it_again_gives_the_same_bytes(run, tmp_path):
    again = write_submission(open_run_folder(run).config, tmp_path / "again.py")
    assert again.read_bytes() == code_of(run).read_bytes()


@pytest.mark.parametrize("change", ["loss", "score"])
def test_another_program_is_refused(run, tmp_path, change):
    text = code_of(run).read_text()
    old, new = {"loss": ('"SEED", 1337', '"SEED", 1338'), "score": ("math.log(2.0)", "math.log(2.5)")}[change]
    assert old in text
    (tmp_path / "other.py").write_text(text.replace(old, new))
    said = {"loss": "the loss of step 1", "score": "BPB, the run"}[change]
    with pytest.raises(VerificationFailed, match=said):
        verify_submission(tmp_path / "other.py", artifact_of(run), run)


def test_an_artifact_of_another_network_is_refused(run, data_options, tmp_path):
    text = code_of(run).read_text()
    (tmp_path / "other.py").write_text(text.replace('"cap": 30.0', '"cap": 20.0'))
    with pytest.raises(VerificationFailed, match=r"exit code 2 .*holds another network"):
        run_alone(tmp_path / "other.py", [*data_options, "--eval-only", str(artifact_of(run))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "nowhere"], "nowhere is not here; type --data"),
        (["--eval-only", "missing.golf"], "cannot use missing.golf: No such file"),
        (["--tokenizer", "missing.model"], "cannot use missing.model: No such file"),
    ],
)
def test_bad_input_is_one_line(run, data_options, options, said):
    with pytest.raises(VerificationFailed, match=f"exit code 2 .*{said}"):
        run_alone(code_of(run), [*data_options, *options])
