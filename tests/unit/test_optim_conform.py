"""`golf conform` on optimiser files nobody has seen: made here from the formulas, and a tampered one is noticed."""

import json

import pytest
import torch
from safetensors.torch import save_file

from golf.interop.conform_optim import check_optim
from golf.interop.conform_runs import optimiser_settings, run_schedules
from golf.interop.upstream import UnsupportedNetwork
from golf.optim.muon import CLASSIC_COEFFICIENTS, POLAR_EXPRESS_COEFFICIENTS, orthogonalise
from golf.progress import Progress


def step_by_formula(W, m, g, lr, mu, wd, row, coefficients):
    m = mu * m + g
    u = g + mu * m
    u = u / u.norm(dim=-1, keepdim=True) if row else u
    X = torch.stack([orthogonalise(x, 5, torch.float32, coefficients) for x in u.view(-1, *u.shape[-2:])]).view(u.shape)
    return W * (1 - lr * wd) - lr * max(1, W.shape[-2] / W.shape[-1]) ** 0.5 * X, m


def trace(shapes, prefix, row, coefficients, wd, tensors, after_prefix=None):
    generator = torch.Generator().manual_seed(1)
    for i, shape in enumerate(shapes):
        W, m = torch.randn(shape, generator=generator), torch.zeros(shape)
        tensors[f"{prefix}p{i}.init"] = W.clone()
        for step, (lr, mu) in enumerate(zip((0.1, 0.05), (0.9, 0.95))):
            g = tensors[f"{prefix}p{i}.grad{step}"] = torch.randn(shape, generator=generator)
            W, m = step_by_formula(W, m, g, lr, mu, wd, row, coefficients)
            tensors[f"{after_prefix or prefix}p{i}.after{step}"] = W.clone()


@pytest.fixture
def unseen(tmp_path):
    """A banked case with Polar Express, one of plain matrices with rows normalised, and a bank file."""
    tensors = {}
    rates = {"lr_per_step": [0.1, 0.05], "momentum_per_step": [0.9, 0.95]}
    cases = []
    for key, shapes, row, coefficients in (
        ("bank_muon_polar_20270101_fp32", [[3, 8, 4], [2, 4, 8]], False, POLAR_EXPRESS_COEFFICIENTS),
        ("muoneq_20270101_fp32", [[6, 4]], True, CLASSIC_COEFFICIENTS),
    ):
        trace(shapes, f"{key}.", row, coefficients, 0.3, tensors)
        hyper = {"lr": 0.1, "momentum": 0.95, "backend_steps": 5, "weight_decay": 0.3, "row_normalize": row}
        cases.append({"key": key, "shapes": shapes, "hyper": hyper, **rates})
    save_file(tensors, tmp_path / "optim_new.safetensors")
    (tmp_path / "optim_new.json").write_text(json.dumps({"cases": cases}))
    banks = {}
    trace([[3, 8, 4]], "", False, CLASSIC_COEFFICIENTS, 0.2, banks, "fp32.")
    save_file(banks, tmp_path / "bank_new.safetensors")
    case = {"momentum": [0.9, 0.95], "lr": [0.1, 0.05], "weight_decay": 0.2, "steps": 5}
    (tmp_path / "bank_new.json").write_text(json.dumps({"cases": [case]}))
    return tmp_path, tensors, cases


@pytest.mark.parametrize("name", ["optim_new", "bank_new"])
def test_unseen_files_pass(unseen, name):
    results = check_optim(unseen[0] / f"{name}.json", None)
    assert [r.status for r in results] == ["pass"] * (2 if name == "optim_new" else 1), results
    assert all(r.error < 1e-5 for r in results)


def test_a_changed_number_fails_and_an_unknown_setting_is_unsupported(unseen):
    folder, tensors, cases = unseen
    tensors["muoneq_20270101_fp32.p0.after1"][0, 0] += 1e-3
    save_file(tensors, folder / "optim_new.safetensors")
    cases[0]["hyper"]["cautious"] = True
    (folder / "optim_new.json").write_text(json.dumps({"cases": cases}))
    banked, rows = check_optim(folder / "optim_new.json", None)
    assert (banked.status, rows.status) == ("unsupported", "fail")
    assert "cautious" in banked.detail


HYPER = {"matrix_lr": 0.02, "tied_embed_lr": 0.03, "embed_lr": 0.6, "scalar_lr": 0.04, "muon_momentum": 0.99}


def test_hyperparameters_of_a_run_become_arguments():
    more = {"muon_wd": 0.095, "embed_wd": 0.085, "adam_wd": 0.02, "muon_row_normalize": True, "grad_clip_norm": 0.3}
    entry = {"hyper": {**HYPER, **more}, "tensors": [{"name": "qo_bank", "shape": [4, 8, 8]}]}
    found = optimiser_settings(entry, "bf16")
    assert (found["embedding_lr"], found["embedding_weight_decay"], found["scalar_weight_decay"]) == (0.03, 0.085, 0.02)
    assert (found["matrix_weight_decay"], found["row_normalise"], found["clip_norm"]) == (0.095, "row", 0.3)
    assert (found["momentum_dtype"], found["square_first"]) == ("bfloat16", True)
    assert optimiser_settings(entry, "fp32")["momentum_dtype"] == "float32"
    untied = {"hyper": {**HYPER, "tie_embeddings": False}, "tensors": []}
    assert optimiser_settings(untied, "fp32")["embedding_lr"] == 0.6
    with pytest.raises(UnsupportedNetwork, match=r"muon_beta2=0\.9"):
        optimiser_settings({"hyper": {**HYPER, "muon_beta2": 0.9}, "tensors": []}, "fp32")


def test_schedules_of_a_run():
    schedules = run_schedules({**HYPER, "warmdown_frac": 0.5, "min_lr": 0.1})
    values = schedules.values(Progress(step=75, max_steps=100))
    assert values == {"lr": pytest.approx(0.5), "momentum": 0.99}
    assert run_schedules({**HYPER, "warmdown_iters": 50}).values(Progress(step=75, max_steps=100))["lr"] == 0.5
