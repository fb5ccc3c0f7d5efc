"""Launchers and sweepers in real processes: jobs that fail, die or are finished, and what the sweep says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stub_job import DIES, DIES_ONCE, FAILS, IS_NAN

from golf.config.engines.records import read_record

STUB = Path(__file__).with_name("stub_job.py")


@pytest.fixture
def sweep(tmp_path):
    """sweep(*overrides) runs a multirun of stub jobs in a process of its own."""

    def call(*overrides, **environment):
        paths = [str(STUB.parent), os.environ.get("PYTHONPATH", "")]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
        command = [sys.executable, str(STUB), "-m", "experiment=smoke", "hydra.sweep.dir=sweep", *overrides]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return call


def records(folder):
    found = {int(path.parent.name): read_record(path.parent) for path in folder.glob("sweep/*/job.json")}
    return [found[number] for number in sorted(found)]


def attempts(folder, job):
    return [path.read_text().split() for path in sorted(folder.glob(f"sweep/{job}/attempt_*"))]


def states(folder):
    return [(record["overrides"][-1], record["state"]) for record in records(folder)]


@pytest.mark.slow
def test_joblib_spares_the_others_when_a_job_dies_and_another_launcher_finishes(sweep, tmp_path):
    """Four jobs, two at a time; then the same sweep through submitit, with what was wrong mended."""
    pytest.importorskip("joblib")
    pytest.importorskip("submitit")
    jobs = f"seed=3,{DIES},1,{IS_NAN}"
    done = sweep(jobs, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 1, done.stderr
    assert states(tmp_path) == [
        ("seed=3", "done"),
        (f"seed={DIES}", "failed"),
        ("seed=1", "done"),
        (f"seed={IS_NAN}", "failed"),
    ]
    lines = done.stdout.splitlines()
    assert "failed  job 1: its process was killed (out of memory?)" in lines
    assert "failed  job 3: the objective is nan" in lines
    assert "again   python train.py run=sweep" in lines
    assert "best    python train.py experiment=smoke seed=1" in lines
    kept = [attempts(tmp_path, job) for job in (0, 2)]
    again = sweep(jobs, "hydra/launcher=submitit_local", STUB_MENDED="1")
    assert again.returncode == 0, again.stderr
    assert {state for _, state in states(tmp_path)} == {"done"}
    assert [attempts(tmp_path, job) for job in (0, 2)] == kept, "a finished job was run again"
    assert again.stdout.count("is finished already") == 2
    assert "failed" not in again.stdout


@pytest.mark.slow
def test_submitit_a_job_that_dies_is_one_line(sweep, tmp_path):
    pytest.importorskip("submitit")
    done = sweep(f"seed=2,{DIES}", "hydra/launcher=submitit_local")
    assert done.returncode == 1
    assert states(tmp_path) == [("seed=2", "done"), (f"seed={DIES}", "failed")]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert line.startswith("failed  job 1: its process died, see sweep/.submitit/")
    assert (tmp_path / line.rpartition("see ")[2]).is_file()


@pytest.mark.slow
def test_ray_places_jobs_on_two_workers_and_starts_a_killed_one_again(sweep, tmp_path):
    """A local Ray with two cores and two GPUs by count: no two jobs at once see the same device."""
    pytest.importorskip("ray")
    pool = ("hydra.launcher.num_cpus=2", "hydra.launcher.num_gpus=2", "hydra.launcher.retries=1")
    done = sweep(f"seed={DIES_ONCE},2,{FAILS}", "hydra/launcher=ray", *pool, STUB_SECONDS="1")
    assert done.returncode == 4, done.stderr
    assert "3 jobs, each with 1 cores and 1 GPUs, on 1 machine with 2 cores and 2 GPUs" in done.stdout
    assert [state for _, state in states(tmp_path)] == ["done", "done", "failed"]
    tried = [attempts(tmp_path, job) for job in range(3)]
    assert [len(each) for each in tried] == [2, 1, 1]
    assert len({process for each in tried for process, _ in each}) == 4
    assert {device for each in tried for _, device in each} == {"0", "1"}
    assert "failed  job 2: the check failed" in done.stdout


def test_a_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    """Failed and NaN jobs have finite values; a trial under way when the sweep was stopped runs before new ones."""
    optuna = pytest.importorskip("optuna")
    from golf.config.entry import run_script

    monkeypatch.chdir(tmp_path)
    calls = []

    def job(config):
        calls.append((config.seed, config.optim.matrix_lr))
        if len(calls) == 2:
            return float("nan")
        if len(calls) == 3:
            raise RuntimeError("a bug")
        if len(calls) == 5:
            raise KeyboardInterrupt
        return (config.optim.matrix_lr - 0.03) ** 2

    def search(trials):
        space = ("seed=range(1,4)", "optim.matrix_lr=tag(log,interval(0.01,0.1))")
        given = ["-m", "experiment=smoke", *space, "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={trials}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *given])
        with pytest.raises(SystemExit) as ended:
            run_script("train", job)
        return ended.value.code, capsys.readouterr()

    code, said = search(5)
    assert code == 130, said.err
    assert "go on with the jobs that are left: python train.py run=runs/smoke/multirun_study" in said.err
    code, said = search(5)
    assert code == 1, said.err  # two jobs have failed
    assert calls[5] == calls[4], "the trial that was under way is not the first"
    assert len(calls) == 8
    folder = tmp_path / "runs/smoke/multirun_study"
    study = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/study.db")
    values = [trial.value for trial in study.trials]
    assert [value == 1e9 for value in values] == [False, True, True, False, False, False, False]
    assert [trial.user_attrs.get("failed") for trial in study.trials[:3]] == [
        None,
        "the objective is nan",
        "RuntimeError: a bug",
    ]
    assert all(trial.params["seed"] in (1, 2, 3) and 0.01 <= trial.params["optim.matrix_lr"] <= 0.1
               for trial in study.trials)  # fmt: skip
    best = study.best_params
    assert f"best    python train.py seed={best['seed']} optim.matrix_lr={best['optim.matrix_lr']}" in said.out
    assert (folder / "optimization_results.yaml").is_file()
