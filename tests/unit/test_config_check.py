"""Checks of a resolved config: every error at once, one line each, with the override to type."""

from __future__ import annotations

import pytest

from golf.config.check import check, find
from golf.errors import UserError

OPTIM = "golf.optim.muon_adam.muon_adam"


def errors(config):
    return find(config).errors


def optim(**keys):
    return {"optim": {"_target_": OPTIM, "_partial_": True, **keys}}


def test_a_good_config_has_no_errors():
    assert errors(optim(matrix_lr=0.02, betas=[0.9, 0.95], newton_schulz_steps=5)) == []


def test_unknown_key_names_the_nearest_and_the_override():
    (line,) = errors(optim(matrx_lr=0.02))
    assert "optim.matrx_lr=0.02" in line
    assert line.endswith("type optim.matrix_lr=0.02")


def test_wrong_types_say_what_is_expected():
    lines = errors(optim(matrix_lr="fast", newton_schulz_steps=5.0, betas=[0.9], eps=True))
    assert len(lines) == 4
    assert any(line == "optim.matrix_lr=fast: float expected, not text; type optim.matrix_lr=0.04" for line in lines)
    assert any(line.endswith("type optim.newton_schulz_steps=5") for line in lines)


def test_missing_keys_of_whole_and_partial_nodes():
    node = {"_target_": "golf.optim.schedules.LinearRamp", "start": 0.85}
    lines = errors({"schedule": {"momentum": node}})
    assert [line.split(" ")[0] for line in lines] == ["schedule.momentum.end", "schedule.momentum.steps"]
    assert lines[0].endswith("type +schedule.momentum.end=<float>")
    assert errors({"schedule": {"momentum": {**node, "_partial_": True}}}) == []


def test_positional_arguments_fill_parameters():
    node = {"_target_": "golf.optim.schedules.LinearRamp", "_args_": [0.85, 0.95], "steps": 3}
    assert errors({"schedule": {"momentum": node}}) == []


def test_missing_values_are_reported_once():
    assert errors({"run": "???"}) == ["run is required; type run=<value>"]
    (line,) = errors(optim(matrix_lr="???"))
    assert line.startswith("optim.matrix_lr is required")


def test_unknown_targets():
    lines = errors(
        {
            "a": {"_target_": "golf.optim.muon_adam.muon_adm"},
            "b": {"_target_": "golf.optim.muon_adm.muon_adam"},
            "c": {"_target_": "no_such_package.Thing"},
            "d": {"_target_": "golf.optim.muon_adam"},
            "e": {"_target_": "nodots"},
        }
    )
    assert lines[0].endswith("type a._target_=golf.optim.muon_adam.muon_adam")
    assert lines[1].endswith("type b._target_=golf.optim.muon_adam.muon_adam")
    assert "no module 'no_such_package'" in lines[2]
    assert "names a module" in lines[3]
    assert "a dotted name is expected" in lines[4]


def test_nodes_in_lists_and_dicts_are_walked():
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/bpb", "patiense": 3}
    lines = errors({"callbacks": {"stop": stop}, "more": [[stop]]})
    assert lines[0].startswith("callbacks.stop.patiense=3")
    assert lines[1].startswith("more[0][0].patiense=3")


def test_literal_values_list_what_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "choice_module.py").write_text(
        "from typing import Literal\ndef choose(tail: Literal['exact', 'rescored'] = 'exact'): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = errors({"eval": {"_target_": "choice_module.choose", "tail": "rescord"}})
    assert line == "eval.tail=rescord: allowed: exact | rescored; type eval.tail=rescored"


def test_unchecked_third_party_is_said():
    findings = find({"x": {"_target_": "torch.optim.AdamW", "nonsense": 1}})
    assert findings.errors == []
    assert "not checked" in findings.notes[0]


def test_broken_source_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = errors({"x": {"_target_": "broken_module.f"}})
    assert "line 1 is not valid Python" in line


def test_check_raises_all_lines():
    with pytest.raises(UserError) as caught:
        check(optim(matrx_lr=1.0, eps="small"))
    assert len(str(caught.value).splitlines()) == 2
    assert caught.value.exit_code == 2
