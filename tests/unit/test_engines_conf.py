"""Launchers and sweepers before anything runs: what is refused, what is searched, what Slurm is asked for."""

from __future__ import annotations

import importlib.util
import socket
import sys

import pytest
import yaml

from golf.config.command import check_command
from golf.config.compose import Composer, conf_dir
from golf.config.engines import registry
from golf.config.engines.joblib_pool import processes
from golf.config.engines.ray_pool import require_head, require_room
from golf.config.engines.records import finished, write_record
from golf.errors import UserError


@pytest.mark.parametrize("engine", registry.NEEDED)
def test_a_missing_package_is_one_line_with_its_extra(engine, monkeypatch):
    module, extra = registry.NEEDED[engine]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    [line] = check_command("train", ["experiment=smoke", "seed=1,2", engine], multirun=True).errors
    assert (
        line == f"{engine} needs {module}, which is not installed; type pip install -c constraints.txt -e '.[{extra}]'"
    )


def test_every_engine_is_a_file_with_an_entry():
    files = {f"hydra/{path.parent.name}={path.stem}" for path in (conf_dir() / "hydra").rglob("*.yaml")}
    assert files == set(registry.NEEDED)


def test_engines_that_would_do_nothing_and_intervals_without_a_search():
    [line] = check_command("train", ["experiment=smoke", "hydra/launcher=ray"]).errors
    assert line.endswith("type -m hydra/launcher=ray")
    swept = ["experiment=smoke", "optim.matrix_lr=interval(0.01,0.1)"]
    [line] = check_command("train", swept, multirun=True).errors
    assert "hydra/sweeper=optuna" in line
    assert check_command("train", [*swept, "hydra/sweeper=optuna"], multirun=True).errors == []


def test_lists_ranges_and_intervals_are_searched_as_typed():
    pytest.importorskip("optuna")
    from golf.config.engines.space import search_space

    texts = (
        "a=1,2",
        "b=range(1,10,3)",
        "c=range(0.1,0.3,0.1)",
        "d=interval(1,3)",
        "e=tag(log,int(interval(4,64)))",
        "f=x",
    )
    found, fixed = search_space(["f=1,2", *texts], Composer("train").loader)
    assert fixed == ["f=x"]
    assert tuple(found["a"].choices) == ("1", "2") or tuple(found["a"].choices) == (1, 2)
    assert (found["b"].low, found["b"].high, found["b"].step) == (1, 7, 3)
    assert (found["c"].low, found["c"].high, found["c"].step) == (0.1, 0.2, 0.1)
    assert (found["d"].low, found["d"].high, found["d"].log) == (1.0, 3.0, False)
    assert (found["e"].low, found["e"].high, found["e"].log) == (4, 64, True)
    with pytest.raises(UserError, match="must be below the second"):
        search_space(["d=interval(3,1)"], None)
    with pytest.raises(UserError, match="nothing to search"):
        search_space(["seed=1"], None)


def test_no_ray_head_is_one_line_within_its_time():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UserError, match=r"no Ray head answers there .*ray start --head"):
            require_head(f"127.0.0.1:{port}")
        free.listen()  # something that is no Ray
        with pytest.raises(UserError, match=r"is no Ray head of this version \(no answer in 0.5 s\)"):
            require_head(f"ray://127.0.0.1:{port}", seconds=0.5)
    with pytest.raises(UserError, match="allowed are <host>:6379"):
        require_head("somewhere")


def test_a_job_that_no_machine_has_room_for_does_not_wait_for_ever():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    require_room(nodes, 1, 1)
    with pytest.raises(UserError, match=r"2 cores and 1 GPUs for a job .*2 machines with 2 cores and 0 GPUs, 1 cores"):
        require_room(nodes, 2, 1)


def settings(option, *overrides):
    from omegaconf import OmegaConf

    config = Composer("train").load(["experiment=smoke", f"hydra/launcher={option}", *overrides])
    launcher = config.hydra.launcher
    launcher.submitit_folder, launcher.name = "jobs/%j", "train"  # interpolations of a running multirun
    found = OmegaConf.to_container(launcher, resolve=True)
    found.pop("_target_")
    return found


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    from golf.config.engines.slurm import executor

    monkeypatch.chdir(tmp_path)
    asked = ("hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=2", "hydra.launcher.timeout_min=90")
    found = settings("submitit_slurm", *asked, "+hydra.launcher.additional_parameters.mail-type=END")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no Slurm on this machine"):
        executor("slurm", found)
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    text = executor("slurm", found)._executor._make_submission_file_text("srun a job", "uid")
    lines = text.splitlines()
    for option in ("partition=gpu", "gpus-per-node=2", "time=90", "nodes=1", "ntasks-per-node=1", "mail-type=END"):
        assert f"#SBATCH --{option}" in lines, text
    assert any(line.startswith("#SBATCH --signal=USR2@") and line.endswith("120") for line in lines)
    assert any("srun a job" in line for line in lines)
    with pytest.raises(UserError, match=r"hydra\.launcher: "):
        executor("slurm", found | {"wall_time": 3})


def test_processes_of_a_pool():
    assert processes(3) == 3
    assert processes(-1) >= 1
    for wrong in (0, -2, "two"):
        with pytest.raises(UserError, match="positive number, or -1"):
            processes(wrong)


def test_a_job_is_finished_only_with_the_same_overrides(tmp_path):
    write_record(tmp_path, 0, "train", ["seed=1"], 1.5)
    assert finished(tmp_path, ["seed=1"])["objective"] == 1.5
    assert finished(tmp_path, ["seed=2"]) is None
    write_record(tmp_path, 0, "train", ["seed=1"], float("inf"))
    assert finished(tmp_path, ["seed=1"]) is None
    (tmp_path / "job.json").write_text("{")
    assert finished(tmp_path, ["seed=1"]) is None


def test_the_command_of_a_wandb_agent_composes():
    """W&B's own functions render the shipped file's command for the values of a trial."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((conf_dir().parent / "scripts" / "wandb_sweep.yaml").read_text())
    drawn = {key: {"value": space.get("min") or space["values"][-1]} for key, space in sweep["parameters"].items()}
    values = create_sweep_command_args({"args": drawn})
    rendered = []
    for word in create_sweep_command(sweep["command"]):
        macro = word.removeprefix("${").removesuffix("}")
        rendered += values[macro] if macro in values else [{"env": "env", "program": sweep["program"]}.get(macro, word)]
    assert rendered[:3] == ["env", "python", "train.py"]
    assert not any("$" in word or word.startswith("--") for word in rendered)
    assert check_command("train", rendered[3:]).errors == []
    config = Composer("train").compose([word for word in rendered[3:] if not word.startswith("logger=")])
    assert (config["optim"]["matrix_lr"], config["schedule"]["lr"]["warmdown_fraction"]) == (0.01, 0.5)
    assert sweep["metric"]["name"] == "ladder/sliding/bpb"


def test_a_sweep_goes_on_with_its_own_command(tmp_path, monkeypatch):
    from golf import app
    from golf.config import entry

    (tmp_path / "sweep.json").write_text(
        '{"script": "train", "arguments": ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}'
    )
    called = []

    def run_script(name, function, argv):
        called.append(argv)
        sys.exit(0)

    monkeypatch.setattr(entry, "run_script", run_script)
    folder = f"hydra.sweep.dir={tmp_path}"
    for more, expected in (
        ([], ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", folder]),
        (["hydra.launcher.n_jobs=1"], ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", folder]),
        (["hydra/launcher=ray"], ["-m", "seed=1,2", "hydra/launcher=ray", folder]),
    ):
        with pytest.raises(SystemExit):
            app.resume(str(tmp_path), more)
        assert called.pop() == expected
    with pytest.raises(UserError, match="seed=3: a sweep goes on with the command"):
        app.resume(str(tmp_path), ["seed=3"])
