"""An option typed in the place of an experiment's own: keys without a place there go and are named, the others stay."""

from __future__ import annotations

import pytest

from golf.config.check import find
from golf.config.command import check_command
from golf.config.compose import Composer, conf_dir

LATE = "record/0427_lqer_sparse_gate_hp"


@pytest.fixture
def composer():
    return Composer("train")


def option(path):
    """What an option's own file says, without any experiment."""
    group, _, name = path.partition("=")
    return Composer("train").compose([f"{group}={name}"])[group]


def test_a_quantiser_in_the_place_of_trellis_codes_is_that_quantiser(composer):
    found = composer.compose(["experiment=frontier", "quant=int8_rows"])
    assert found["quant"] == {**option("quant=int8_rows"), "gate": "int8_gate_rows"}  # the experiment's word on gates
    assert find(found).errors == []
    (said,) = map(str, composer.replaced)
    assert said.startswith(
        "quant=int8_rows in the place of tcq_64_classes: experiment=frontier's own keys for it left out"
    )
    assert "quant.embedding.factor=8.4" in said
    assert said.endswith("kept: quant.gate=int8_gate_rows")


def test_keys_that_the_option_has_too_are_kept(composer):
    found = composer.compose(["experiment=frontier", "quant=int6_gptq"])["quant"]
    assert found["calibration"]["batches"] == 32
    assert found["embedding"]["factor"] == 8.4
    assert found["matrix"] == option("quant=int6_gptq")["matrix"]


@pytest.mark.parametrize("name", ["none", "swa"])
def test_an_average_without_a_decay_gets_none(composer, name):
    found = composer.compose([f"experiment={LATE}", f"average={name}"])
    assert "decay" not in (found["average"] or {})
    assert find(found).errors == []


def test_parts_of_another_kind_are_the_options(composer):
    """An experiment's ramp of momentum is a patch of a ramp, and `cosine` has none."""
    found = composer.compose(["experiment=record/0322_ema_gptq_lite", "schedule=cosine"])
    assert found["schedule"] == option("schedule=cosine")
    assert find(found).errors == []


def test_what_is_typed_stays_and_is_judged_as_it_is(composer):
    found = composer.compose(["experiment=frontier", "quant=int6_gptq", "quant.embedding.factor=9"])
    assert found["quant"]["embedding"]["factor"] == 9
    wrong = composer.compose([f"experiment={LATE}", "average=swa", "average.decay=0.9"])
    assert wrong["average"]["decay"] == 0.9
    assert any("average.decay" in line for line in find(wrong).errors)


def test_the_experiments_own_option_typed_again_changes_nothing(composer):
    assert composer.compose(["experiment=frontier", "quant=tcq_64_classes"]) == composer.compose(
        ["experiment=frontier"]
    )
    assert composer.replaced == []
    whole = composer.compose([f"experiment={LATE}", "optim=muon_adam", "hardware=cpu"])
    assert composer.replaced == []  # every key has a place
    assert whole["optim"]["matrix_lr"] == composer.compose([f"experiment={LATE}"])["optim"]["matrix_lr"]


def test_parents_and_ablations_are_composed_with_the_same_option(composer):
    found = composer.compose(["experiment=frontier", "quant=int8_rows", "ablate=average"])
    assert found["quant"]["matrix"] == "int8_rows"
    assert [item.experiment for item in composer.replaced] == ["frontier"]


def test_a_group_that_only_the_experiment_has_is_left_as_it_is(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /experiment/frontier\n  - /average@average.second: ema\n  - _self_\n"
        "average:\n  second:\n    decay: 0.5\n"
    )
    composer = Composer("train", (tmp_path,))
    found = composer.compose(["experiment=mine", "average@average.second=swa"])
    assert found["average"]["second"]["decay"] == 0.5
    assert composer.replaced == []
    assert composer.compose(["experiment=mine", "quant=none"])["quant"].keys() == option("quant=none").keys()
    assert [(item.group, item.experiment) for item in composer.replaced] == [("quant", "mine")]


def test_what_cannot_be_read_takes_every_key(tmp_path):
    """A class of another package may have any parameter: nothing of it is left out."""
    for folder, text in (
        ("average", "_target_: torch.optim.swa_utils.AveragedModel\n"),
        ("experiment", "# @package _global_\ndefaults:\n  - override /average: ema\naverage:\n  avg_fn: 1\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(text)
    composer = Composer("train", (tmp_path,))
    found = composer.compose(["experiment=mine", "average=mine"])
    assert found["average"] == {"_target_": "torch.optim.swa_utils.AveragedModel", "avg_fn": 1}
    assert composer.compose(["experiment=mine", "average=none"])["average"] in ({}, None)


def test_a_check_notes_it_and_a_sweep_over_quantisers_is_sound():
    notes = check_command("train", ["experiment=frontier", "average=none"])
    assert notes.errors == []
    assert any("average.decay=0.9965" in note for note in notes.notes)
    assert check_command("train", ["experiment=frontier", "quant=int8_rows,int6_gptq"], multirun=True).errors == []


@pytest.mark.parametrize("group", ["average", "schedule", "quant"])
def test_every_option_takes_the_place_of_a_records(composer, group):
    """Every part of the last record can be another one's. (Of the quantisers, one in five: they are many.)"""
    names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if path.stem != "as_run")
    for name in names if group != "quant" else names[::5]:
        assert find(composer.compose([f"experiment={LATE}", f"{group}={name}"])).errors == [], name
