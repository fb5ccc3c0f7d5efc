"""export.py changes single keys of what the run chose; what the run does not have is refused with what it has."""

from __future__ import annotations

import shutil

import pytest
import yaml

from golf.config.as_run import added, with_own_keys
from golf.config.command import check_command
from golf.config.compose import CompositionError, compose
from golf.config.entry import run_script

GPTQ = {"_target_": "golf.quant.gptq.Gptq"}
OWN = {
    "quant": {
        "_target_": "golf.quant.plan.QuantPlan",
        "matrix": {**GPTQ, "bits": 6, "factor": 12.85},
        "small_numel": 8192,
    },
    "codec": {"_target_": "golf.codec.zlib_codec.ZlibCodec", "level": 9},
    "eval": {"_target_": "golf.evaluation.ladder.Ladder", "stride": 64},
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(OWN))
    return tmp_path


def test_keys_of_the_runs_own_groups_are_added_and_no_others():
    typed = [
        "run=x",
        "quant.small_numel=1",
        "codec=lzma",
        "codec.preset=9",
        "eval=as_run",
        "eval.stride=2",
        "+quant.a=1",
    ]
    assert added("export", typed) == [
        *("run=x", "++quant.small_numel=1", "codec=lzma", "codec.preset=9", "eval=as_run", "++eval.stride=2"),
        "+quant.a=1",
    ]
    assert added("train", typed) == typed


def test_one_key_changes_and_the_rest_stays(run):
    found = compose("export", [f"run={run}", "quant.matrix.factor=9", "eval.stride=32"])
    assert found["quant"] == {**OWN["quant"], "matrix": {**GPTQ, "bits": 6, "factor": 9}}
    assert found["eval"] == {**OWN["eval"], "stride": 32}
    assert found["codec"] == {}  # nothing was typed: the job takes the run's


def test_a_key_that_the_run_does_not_set_is_added_with_a_plus(run):
    found = compose("export", [f"run={run}", "+quant.matrix.damping=0.02", "quant.matrix.factor=9"])
    assert found["quant"]["matrix"] == {**GPTQ, "bits": 6, "factor": 9, "damping": 0.02}


def test_a_chosen_option_is_not_mixed_with_the_runs(run):
    chosen = compose("export", [f"run={run}", "quant=int6_rows", "quant.small_numel=5"])["quant"]
    assert chosen == {**compose("export", ["run=x", "quant=int6_rows"])["quant"], "small_numel": 5}
    assert with_own_keys({"run": str(run), "quant": chosen}, {"quant": "int6_rows"})["quant"] == chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quant.smal_numel=1", "quant {} 'smal_numel'; nearest: small_numel; type quant.small_numel=1"),
        ("quant.matrix.fctor=1", "quant.matrix {} 'fctor'; nearest: factor; type quant.matrix.factor=1"),
        ("quant.matrix.damping=1", "quant.matrix of the run does not set 'damping'; type +quant.matrix.damping=1"),
        ("codec.x=1", "codec {} 'x'; allowed are level; type codec=<option> codec.x=1 to choose another codec"),
        ("codec.level.x=1", "codec.level {} 'x': it is the value 9; type codec.level=1"),
    ],
)
def test_keys_that_the_run_does_not_have(run, text, said):
    with pytest.raises(CompositionError) as refused:
        compose("export", [f"run={run}", "eval.stride=32", text])
    assert refused.value.lines == [f"{text}: " + said.format("of the run has no key")]
    assert refused.value.good == [f"run={run}", "eval.stride=32"]


def test_every_mistake_is_told_at_once(run):
    found = check_command("export", [f"run={run}", "quant.smal_numel=1", "eval.stride=wide"])
    first, second = found.errors
    assert first.startswith("quant.smal_numel=1: ")
    assert second.startswith("eval.stride=wide: ")


def test_an_export_of_the_runs_own_plan_with_one_key_changed(smoke_run, tmp_path, monkeypatch, capfd):
    folder = shutil.copytree(smoke_run.path, tmp_path / "run")
    before = yaml.safe_load((folder / "config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["export.py", f"run={folder}", "codec.level=0", "through=pack"])
    with pytest.raises(SystemExit) as ended:
        run_script("export", "golf.app:export")
    assert ended.value.code in (0, None), capfd.readouterr().err
    default, larger = ((folder / "artifact" / name / "model.golf").stat().st_size for name in ("default", "level_0"))
    assert larger > default  # nothing is compressed
    assert yaml.safe_load((folder / "config.yaml").read_text()) == before
