"""What train.py, export.py and evaluate.py share: checking first, exit codes, sweeps that survive a failed job."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from golf.config.entry import parse, run_script
from golf.errors import UserError

SCRIPT = """
import sys
from golf.config.entry import run_script

def job(config):
    from golf.errors import VerificationFailed
    if config.seed == 3:
        raise VerificationFailed("the check failed")
    if config.seed == 4:
        raise RuntimeError("a bug")
    if config.seed == 5:
        raise KeyboardInterrupt
    print("job", config.name, config.seed, {"torch", "lightning"} & set(sys.modules))
    return float(config.seed)

if __name__ == "__main__":
    run_script("train", job)
"""


@pytest.fixture
def train(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)

    def call(*argv):
        return subprocess.run(
            [sys.executable, "train.py", *argv], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    call.folder = tmp_path
    return call


def test_a_job_runs_in_its_folder(train):
    done = train("experiment=smoke", "seed=1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "job smoke 1 set()\n", "")
    assert len(list((train.folder / "runs" / "smoke").iterdir())) == 1


@pytest.mark.parametrize(
    ("seed", "code", "words"), [(3, 4, "golf: the check failed\n"), (5, 130, "golf: interrupted\n")]
)
def test_errors_are_one_line_with_their_exit_code(train, seed, code, words):
    done = train("experiment=smoke", f"seed={seed}")
    assert (done.returncode, done.stderr) == (code, words)


def test_a_bug_shows_its_traceback(train):
    done = train("experiment=smoke", "seed=4")
    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr
    assert "Traceback" in done.stderr


def test_config_errors_come_before_anything_is_written(train):
    done = train("experiment=smok", "optim.matrix_lr=fast")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert not (train.folder / "runs").exists()


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_goes_on_after_a_failed_job(train, launcher):
    if launcher == "joblib":
        pytest.importorskip("joblib")
    done = train("-m", "experiment=smoke", "seed=3,1,2", f"hydra/launcher={launcher}")
    assert done.returncode == 4
    assert "golf: the check failed" in done.stderr
    table = done.stdout[done.stdout.index("3 jobs in") :].splitlines()
    assert table[1].split() == ["job", "overrides", "sliding", "state", "seconds", "folder"]
    assert "failed: the check failed" in table[2]
    assert "1.0000*" in table[3]
    records = sorted((train.folder / "runs").rglob("job.json"))
    assert len({path.parent for path in records}) == 3
    assert [json.loads(path.read_text())["exit_code"] for path in records] == [4, 0, 0]


def test_help_is_golfs_own(capsys):
    with pytest.raises(SystemExit) as caught:
        run_script("train", "golf.no_such_module:main", ["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "muon_adam*" in out
    assert "seed=" in out


def test_flags():
    assert parse(["-m", "seed=1,2"]).multirun
    with pytest.raises(UserError, match="type seed=3"):
        parse(["--seed=3"])
    with pytest.raises(UserError, match="--hydra-help"):
        parse(["--sed"])


def test_help_and_errors_import_nothing_heavy(train):
    code = (
        "import sys\nfrom golf.config.entry import run_script\n"
        "try:\n    run_script('train', 'golf.app:train', sys.argv[1:])\n"
        "finally:\n    print({'torch', 'lightning', 'numpy'} & set(sys.modules))"
    )
    for argv, expected in ((["--help"], 0), (["seed=x"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == expected
        assert done.stdout.splitlines()[-1] == "set()"
