"""Composition from a small tree of YAML files: good overrides, every kind of bad one, all bad ones at once, sweeps."""

from __future__ import annotations

import pytest

from golf.config.command import check_command
from golf.config.compose import Composer, CompositionError, compose
from golf.config.sweeps import variants
from golf.errors import UserError

FILES = {
    "train.yaml": """
defaults:
  - _self_
  - optim: muon_adam
  - average: none
  - budget: steps
  - trainer: default
  - experiment: none
name: run
seed: 1
half: ${mul:${budget.max_steps},0.5}
folder: ${hydra:runtime.output_dir}
commit: ${git:}
""",
    "optim/muon_adam.yaml": """# c
# Muon.
_target_: golf.optim.muon_adam.muon_adam
_partial_: true
matrix_lr: 0.04
""",
    "optim/muon_slow.yaml": "# c\n# Slow.\ndefaults: [muon_adam, _self_]\nmatrix_lr: 0.01\n",
    "average/none.yaml": "# c\n# No averaging.\n",
    "average/ema.yaml": "# c\n# Average.\n_target_: golf.optim.averaging.Ema\ndecay: 0.99\n",
    "budget/steps.yaml": "# c\n# Steps.\nmax_steps: 10\n",
    "trainer/default.yaml": "# c\n# Trainer.\nfast_dev_run: false\n",
    "experiment/none.yaml": "# c\n# None.\n",
    "experiment/smoke.yaml": """# @package _global_
# c
# Smoke.
defaults:
  - override /average: ema
  - _self_
name: smoke
""",
    "experiment/record/0322_x.yaml": "# @package _global_\n# c\n# Record.\nname: x\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def lines(tree, *overrides):
    with pytest.raises(CompositionError) as caught:
        compose("train", overrides, folder=tree)
    assert all("\n" not in line for line in caught.value.lines)
    return caught.value.lines


def test_a_good_config_is_plain_and_resolved(tree):
    config = compose("train", ["experiment=smoke", "budget.max_steps=20", "+optim.eps=1e-9"], folder=tree)
    assert config["name"] == "smoke"
    assert config["average"]["decay"] == 0.99
    assert config["half"] == 10.0
    assert config["optim"]["eps"] == 1e-9
    assert config["folder"] == "${hydra:runtime.output_dir}"
    assert "hydra" not in config
    assert compose("train", ["experiment=record/0322_x"], folder=tree)["name"] == "x"


BAD = [
    ("optim=muon_adm", "type optim=muon_adam"),
    ("optim=zzz", "allowed: muon_adam, muon_slow"),
    ("experiment=0322_x", "type experiment=record/0322_x"),
    ("optm=muon_adam", "type optim=muon_adam"),
    ("optim.matrx_lr=1", "type optim.matrix_lr=1"),
    ("matrix_lr=1", "type optim.matrix_lr=1"),
    ("optim.eps=1", "type +optim.eps=1"),
    ("average.decay=0.9", "type average=ema average.decay=0.9"),
    ("seed.x=1", "seed is a value; type seed=1"),
    ("+seed=2", "exists already; type seed=2"),
    ("~sed", "nearest: seed"),
    ("trainer.devices=2", "type hardware.devices=2"),
    ("trainer.max_epochs=3", "type budget.max_steps=<steps>"),
    ("trainer.overfit_batches=2", "type +trainer.overfit_batches=2"),
    ("name=a=b", "type \"name='a=b'\""),
    ("name=run,fast", "type -m name=run,fast"),
    ("seed", "an override is key=value; type seed=<value>"),
    ("hydra.rn.dir=x", "type hydra.run.dir=x"),
    ("half=${budget.max_stps}", "half="),
]


@pytest.mark.parametrize(("override", "words"), BAD)
def test_bad_overrides_say_what_to_type(tree, override, words):
    (line,) = lines(tree, override)
    assert words in line


def test_all_bad_overrides_are_reported_at_once(tree):
    several = [override for override, _ in BAD if not override.startswith(("half=", "optim="))]
    assert len(lines(tree, *several)) == len(several)


def test_keys_of_a_broken_group_are_not_blamed_too(tree):
    assert len(lines(tree, "optim=muon_adm", "optim.anything=3")) == 1


def test_composition_errors_do_not_hide_wrong_values(tree):
    findings = check_command("train", ["optm=muon_adam", "optim.matrix_lr=fast", "+bugdet=3"], folder=tree)
    starts = {line.split(":")[0] for line in findings.errors}
    assert starts == {"optm=muon_adam", "optim.matrix_lr=fast", "bugdet=3"}


def test_technique_in_a_folder_of_its_own(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_technique.py").write_text("class Slow:\n    def __init__(self, rate: float): ...\n")
    (tmp_path / "mine" / "average").mkdir(parents=True)
    (tmp_path / "mine" / "average" / "slow.yaml").write_text("# c\n# Mine.\n_target_: my_technique.Slow\nrate: 0.5\n")
    good = check_command("train", ["average=slow"], [tmp_path / "mine"], folder=tree)
    assert (good.errors, good.notes) == ([], [])
    bad = check_command("train", ["average=slow", "average.rate=quick"], [tmp_path / "mine"], folder=tree)
    assert bad.errors == ["average.rate=quick: float expected, not text; type average.rate=<float>"]
    by_searchpath = f"hydra.searchpath=['file://{tmp_path / 'mine'}']"
    assert compose("train", [by_searchpath, "average=slow"], folder=tree)["average"]["rate"] == 0.5
    with pytest.raises(UserError, match="no such folder"):
        Composer("train", (tmp_path / "absent",), tree)


def test_sweeps_are_expanded_for_checking(tree):
    composer = Composer("train", (), tree)
    found = variants(
        composer, ["seed=1,2,3", "name=x", "optim.matrix_lr=interval(0.1,1)", "budget.max_steps=range(1,3)"]
    )
    assert found[0] == ["seed=1", "name=x", "optim.matrix_lr=0.1", "budget.max_steps=1"]
    assert [item[0] for item in found] == ["seed=1", "seed=2", "seed=3", "seed=1"]
    assert len(variants(composer, ["seed=range(1000)"])) == 24
    assert len(variants(composer, ["optim=glob(*)"])) == 2
    findings = check_command("train", ["optim.matrix_lr=.1,slow", "seed=1,x"], multirun=True, folder=tree)
    assert len(findings.errors) == 2


def test_a_primary_config_that_does_not_exist(tree):
    with pytest.raises(UserError, match="train, export, evaluate"):
        Composer("trian", (), tree)
