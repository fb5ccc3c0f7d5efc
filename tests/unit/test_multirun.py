"""Sweeps: one folder per job, a table and a page at the end, failed jobs among them; one training, many exports."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from golf.config.sweep_table import render
from golf.pipeline.summary import objective

SWEEP = ("-m", "through=train", "budget.max_steps=2")


def table(done):
    """Rows of the sweep's table, header first."""
    lines = done.stdout.splitlines()
    first = next(index for index, line in enumerate(lines) if " jobs in " in line)
    end = lines.index("", first) if "" in lines[first:] else -1
    return [line.split() for line in lines[first + 1 : end]], lines[-1]


def record(job, objective, name="sliding", **others):
    texts = [f"seed={job}", "experiment=smoke"]
    base = {"job": job, "overrides": texts, "objective_name": name, "objective": objective}
    return base | {"seconds": 1.0, "state": "done", "error": "", "folder": f"runs/{job}"} | others


def test_a_sweep_of_two_keys(script_here, tmp_path):
    done = script_here("train", *SWEEP, "optim.matrix_lr=.02,.04", "seed=1,2", "through=average")
    assert done.returncode == 0, done.stderr
    rows, last = table(done)
    assert rows[0] == ["job", "overrides", "averaged", "state", "seconds", "folder"]
    assert [row[1:3] for row in rows[1:]] == [
        [f"optim.matrix_lr={rate}", f"seed={seed}"] for rate in ("0.02", "0.04") for seed in (1, 2)
    ]
    assert sum("*" in row[3] for row in rows[1:]) == 1
    folders = [tmp_path / row[-1] for row in rows[1:]]
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    scores = [json.loads((folder / "summary.json").read_text())["ladder"][-1]["bpb"] for folder in folders]
    assert [float(row[3].rstrip("*")) for row in rows[1:]] == [round(score, 4) for score in scores]
    page = tmp_path / last.removeprefix("report  ")
    assert page == folders[0].parent / "report.html"
    assert "./3/report.html" in page.read_text()
    assert "optim.matrix_lr=0.02 against optim.matrix_lr=0.04" in done.stdout
    assert "paired by seed" in done.stdout
    assert "research_p05: " in done.stdout


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_one_of_the_jobs_fails(script, script_here, tmp_path, launcher):
    parallel = ()
    if launcher == "joblib":
        pytest.importorskip("joblib")
        parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    call = script_here if launcher == "basic" else script
    done = call("train", *SWEEP, *parallel, f"init_from={tmp_path}/nowhere,null")
    assert done.returncode == 2
    assert "nowhere does not exist" in done.stderr
    rows, _ = table(done)
    assert "failed:" in rows[1]
    assert "nowhere" in " ".join(rows[1])
    assert "done" in rows[2]
    assert len(list(tmp_path.glob("runs/smoke/multirun_*/1/stages/train/weights.safetensors"))) == 1


def hashes(run):
    files = [*run.path.glob("checkpoints/**/*"), run.path / "stages/average/weights.safetensors"]
    files.append(run.artifact("default"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def test_one_training_many_exports(script_here, smoke_run):
    before = hashes(smoke_run)
    settings = ("quant=none,int6_rows", "codec=lzma", "through=verify", "submission=false")
    done = script_here("export", "-m", f"run={smoke_run.path}", *settings, tiny=False)
    assert done.returncode == 0, done.stderr
    rows, _ = table(done)
    assert rows[0] == ["job", "overrides", "averaged", "bytes", "state", "seconds", "folder"]
    exports = json.loads((smoke_run.path / "summary.json").read_text())["exports"]
    names = ("none-lzma", "int6_rows-lzma")
    assert set(exports) >= {"default", *names}
    sizes = [exports[name]["total_bytes"] for name in names]
    assert [row[3] for row in rows[1:]] == [f"{size:,}" for size in sizes]
    assert sizes[0] > sizes[1]
    assert [row[-1].split("artifact/")[1] for row in rows[1:]] == list(names)
    assert hashes(smoke_run) == before


def test_one_training_many_scores(script_here, smoke_run):
    before = hashes(smoke_run)
    done = script_here("evaluate", "-m", f"run={smoke_run.path}", "eval.stride=8,16", "eval.max_tokens=512", tiny=False)
    assert done.returncode == 0, done.stderr
    rows, _ = table(done)
    assert [row[1] for row in rows[1:]] == ["eval.stride=8", "eval.stride=16"]
    assert len({row[-1] for row in rows[1:]}) == 2
    assert hashes(smoke_run) == before


def test_the_table_names_what_was_scored():
    text = render([record(0, 1.5), record(1, 1.25)], "runs/x").splitlines()
    assert text[0].endswith("(* best)")
    assert text[3].split() == ["1", "seed=1", "1.2500*", "done", "1.0", "runs/1"]
    mixed = render([record(0, 1.5), record(1, 1.25, "averaged")], "runs/x").splitlines()
    assert mixed[1].split()[2] == "objective"
    assert "1.2500 averaged" in mixed[3]
    assert "*" not in "".join(mixed)
    failed = render([record(0, None, state="failed", error="no", exit_code=2)], "runs/x")
    assert "failed: no" in failed


def test_an_objective_knows_its_rung_and_travels_as_a_number():
    ladder = [{"stage": "raw", "bpb": 2.0}, {"stage": "averaged", "bpb": 1.5}]
    summary = {"ladder": ladder, "exports": {}, "total_bytes": 9}
    found = objective(summary, "sliding")
    assert (found, found.stage, found.total_bytes) == (1.5, "averaged", 9)
    assert objective(summary, "raw").stage == "raw"
    assert objective({"ladder": [], "exports": {}}, "raw") is None
    copy = pickle.loads(pickle.dumps(found))
    assert (copy, type(copy)) == (1.5, float)
