"""conf/sweep: every sweep composes job by job and says when -m is missing; first experiments are what they claim."""

from __future__ import annotations

import pytest

from golf.config.catalogue import options
from golf.config.command import check_command
from golf.config.compose import Composer, compose, conf_dir
from golf.config.derived import count_parameters
from golf.config.sweeps import variants, with_sweep_file

SWEEPS = [option.name for option in options([conf_dir()])["sweep"] if option.name != "none"]
SCRIPTS = {"quantisation": ("export", "run=some/folder")}
GRIDS = [name for name in SWEEPS if name != "ablate"]  # its jobs depend on the experiment: test_config_ablation.py


def overrides_of(sweep):
    script, base = SCRIPTS.get(sweep, ("train", "experiment=baseline"))
    return script, [f"sweep={sweep}", base]


def test_the_four_sweeps_are_listed_with_their_cost():
    found = {option.name: option for option in options([conf_dir()])["sweep"]}
    assert set(found) >= {"depth_width", "context_length", "learning_rate", "quantisation", "none"}
    assert all(any(word in found[name].description for word in ("trainings", "exports")) for name in SWEEPS)
    assert all(" -m " in found[name].command for name in SWEEPS)


@pytest.mark.parametrize("sweep", GRIDS)
def test_jobs_of_a_sweep_are_checked(sweep):
    script, overrides = overrides_of(sweep)
    assert check_command(script, overrides, multirun=True).errors == []
    jobs = variants(Composer(script), with_sweep_file(Composer(script), overrides))
    assert len(jobs) > 2
    assert all(job[-2:] == overrides and len(job) == len(jobs[0]) for job in jobs)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_without_m_it_says_so(sweep):
    script, overrides = overrides_of(sweep)
    (line,) = check_command(script, overrides).errors
    assert line.endswith(f"type -m sweep={sweep}")


def test_the_command_line_wins_and_mistakes_of_a_sweep_are_found():
    overrides = ["sweep=learning_rate", "experiment=smoke", "optim.matrix_lr=0.5"]
    added = with_sweep_file(Composer("train"), overrides)
    assert added == ["optim.embedding_lr=0.03,0.05", *overrides]
    lines = check_command(
        "train", ["sweep=depth_width", "experiment=baseline", "model.num_heads=7"], multirun=True
    ).errors
    assert any("model.num_heads=7 must divide model.width=384" in line for line in lines)


def test_no_sweep_changes_nothing():
    assert compose("train", ["experiment=smoke", "sweep=none"]) == compose("train", ["experiment=smoke"])
    assert "sweep" not in compose("train", ["sweep=learning_rate"])


def test_first_experiments_differ_from_the_baseline_as_published():
    baseline, longer, deeper = (
        compose("train", [f"experiment={name}"]) for name in ("baseline", "seq2048", "layers11")
    )
    assert longer["data"]["seq_len"] == 2048
    assert [longer["optim"][f"{group}_lr"] for group in ("embedding", "matrix", "scalar")] == [0.04, 0.032, 0.032]
    assert (longer["model"], longer["schedule"]) == (baseline["model"], baseline["schedule"])
    assert deeper["model"] == baseline["model"] | {"num_layers": 11}
    assert deeper["optim"] == baseline["optim"]
    assert count_parameters(deeper) == 20_734_552
