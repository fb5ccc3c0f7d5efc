"""Conformance of optimisation: Newton-Schulz, Muon steps on matrices and on banks, averages of weights.

The `fp32` vectors run the Newton-Schulz iteration in float32 and are compared tightly; the `bf16` ones run it in
bfloat16, as real runs do, and differ by rounding from machine to machine. Banks [N, R, C] keep bfloat16 momentum there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from golf.interop.conform_result import Check, max_difference, measured, unsupported

FP32_TOLERANCE = 1e-4
BF16_TOLERANCE = 2e-2
KNOWN_MUON_SETTINGS = {
    *("lr", "momentum", "backend_steps", "steps", "weight_decay", "row_normalize", "nesterov"),
    *("polar_express", "weight_decay_placement"),
}


def check_optim(path: Path, data: Path | None) -> list[Check]:
    """Everything in an optim file: iterations by tensor name, optimizer steps and averages by case."""
    from safetensors.torch import load_file

    vectors = load_file(str(path.with_suffix(".safetensors")))
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    inputs = [key[:-2] for key in vectors if key.endswith(".G")]
    polar = {case["key"]: case["polar_express_coeffs"] for case in cases if "polar_express_coeffs" in case}
    results = [c for key in inputs for c in check_iterations(path.stem, key, vectors, polar.get(key, "polar_express"))]
    for case in cases:
        if "momentum_per_step" in case:
            results.append(check_muon_case(path.stem, case, vectors))
        elif isinstance(case.get("momentum"), list):
            results += check_bank_case(path.stem, case, vectors)
    results += check_averages(path.stem, vectors)
    return results


def check_iterations(
    vector: str, key: str, vectors: Mapping[str, torch.Tensor], polar: str | Sequence[Sequence[float]]
) -> list[Check]:
    """The orthogonalised matrices of one input, for each iteration stored beside it."""
    from golf.optim.muon import newton_schulz_coefficients_of, normalise_rows, orthogonalise

    kinds = {
        "classic": ("classic", "none"),
        "polar_express": (polar, "none"),
        "muoneq_r": ("classic", "row"),
        "muoneq_r_polar": (polar, "row"),
        "polar_express_muoneq_r": (polar, "row"),
        "neomuon": ("classic", "rms"),
    }
    results = []
    for name in sorted(name for name in vectors if name.startswith(f"{key}.") and not name.endswith(".G")):
        wanted = re.fullmatch(r"(\w+?)_(fp32|bf16)(?:_(\d+)steps)?", name[len(key) + 1 :])
        if wanted is None or wanted.group(1) not in kinds:
            results.append(unsupported(vector, name, "matrix", f"iteration {name[len(key) + 1 :]}"))
            continue
        coefficients, rows = kinds[wanted.group(1)]
        dtype, tolerance = precision_of(wanted.group(2))
        update = normalise_rows(vectors[f"{key}.G"], rows)
        steps = int(wanted.group(3) or 5)
        ours = orthogonalise(update, steps, dtype, newton_schulz_coefficients_of(coefficients)).float()
        results.append(measured(vector, name, "matrix", max_difference(ours, vectors[name]), tolerance))
    return results


def precision_of(name: str) -> tuple[torch.dtype, float]:
    """Dtype of the iteration and tolerance of a vector called fp32 or bf16."""
    return (torch.float32, FP32_TOLERANCE) if name == "fp32" else (torch.bfloat16, BF16_TOLERANCE)


def check_muon_case(vector: str, case: Mapping[str, Any], vectors: Mapping[str, torch.Tensor]) -> Check:
    """Consecutive Muon steps with changing rates on several matrices or banks."""
    key, hyper = case["key"], case["hyper"]
    unknown = sorted(name for name in set(hyper) - KNOWN_MUON_SETTINGS if hyper[name])
    if unknown:
        return unsupported(vector, key, "weights", f"Muon with {', '.join(unknown)}")
    dtype, tolerance = precision_of("fp32" if key.endswith("fp32") else "bf16")
    polar = hyper.get("polar_express", "polar" in key)
    if polar is True:
        polar = "polar_express"
    settings = {
        "newton_schulz_steps": hyper.get("backend_steps", hyper.get("steps", 5)),
        "newton_schulz_coefficients": polar or "classic",
        "nesterov": hyper.get("nesterov", True),
        "row_normalise": "rms" if "neo" in key else "row" if hyper.get("row_normalize") else "none",
        "weight_decay_placement": hyper.get("weight_decay_placement", "before"),
    }
    names = [f"{key}.p{i}" for i in range(len(case["shapes"]))]
    gradients = [[vectors[f"{name}.grad{step}"] for name in names] for step in range(len(case["lr_per_step"]))]
    afters = [[vectors[f"{name}.after{step}"] for name in names] for step in range(len(gradients))]
    starts, rates = [vectors[f"{name}.init"] for name in names], (case["lr_per_step"], case["momentum_per_step"])
    worst = muon_error(settings, hyper.get("weight_decay", 0.0), dtype, starts, gradients, afters, rates)
    return measured(vector, key, "weights", worst, tolerance)


def check_bank_case(vector: str, case: Mapping[str, Any], vectors: Mapping[str, torch.Tensor]) -> list[Check]:
    """Steps on banks whose inputs are shared by the precisions: `p0.init`, `p0.grad0`, `bf16.p0.after0`."""
    prefix = f"{case['key']}." if "key" in case else ""
    inits = [name for name in vectors if re.fullmatch(re.escape(prefix) + r"p\d+\.init", name)]
    names = sorted((name[: -len(".init")] for name in inits), key=lambda name: int(name.rsplit("p", 1)[1]))
    settings = {
        "newton_schulz_steps": case.get("steps", 5),
        "row_normalise": "row" if case.get("row_normalize") else "none",
        "newton_schulz_coefficients": "polar_express" if case.get("polar_express") else "classic",
        "square_first": True,  # as every banked script has it
    }
    gradients = [[vectors[f"{name}.grad{step}"] for name in names] for step in range(len(case["lr"]))]
    starts, results = [vectors[f"{name}.init"] for name in names], []
    for precision in ("fp32", "bf16"):
        local = [name[len(prefix) :] for name in names]
        if f"{prefix}{precision}.{local[0]}.after0" not in vectors:
            continue
        afters = [[vectors[f"{prefix}{precision}.{n}.after{s}"] for n in local] for s in range(len(gradients))]
        dtype, tolerance = precision_of(precision)
        rates = (case["lr"], case["momentum"])
        worst = muon_error(settings, case.get("weight_decay", 0.0), dtype, starts, gradients, afters, rates)
        results.append(measured(vector, f"{prefix}{precision}", "weights", worst, tolerance))
    return results


def muon_error(
    settings: Mapping[str, Any],
    weight_decay: float,
    dtype: torch.dtype,
    starts: Sequence[torch.Tensor],
    gradients: Sequence[Sequence[torch.Tensor]],
    afters: Sequence[Sequence[torch.Tensor]],
    rates: tuple[Sequence[float], Sequence[float]],
) -> float:
    """Largest difference of any weight after any step; banks have momentum of the iteration's dtype."""
    from golf.optim.composite import Composite
    from golf.optim.muon import MuonRule

    params = [nn.Parameter(start.clone()) for start in starts]
    banked = all(p.dim() == 3 for p in params)
    momentum_dtype = str(dtype if banked else torch.float32).removeprefix("torch.")
    iteration: dict[str, Any] = {
        "newton_schulz_dtype": str(dtype).removeprefix("torch."),
        "momentum_dtype": momentum_dtype,
    }
    group = {"params": params, "rule": "muon", "base_lr": 1.0, "weight_decay": weight_decay}
    optimizer = Composite([group], {"muon": MuonRule(**{**settings, **iteration})})
    worst = 0.0
    for grads, after, lr, momentum in zip(gradients, afters, *rates, strict=True):
        for parameter, grad in zip(params, grads):
            parameter.grad = grad.clone()
        optimizer.set_rates(lr, momentum)
        optimizer.step()
        worst = max([worst, *(max_difference(p, expected) for p, expected in zip(params, after))])
    return worst


def check_averages(vector: str, vectors: Mapping[str, torch.Tensor]) -> list[Check]:
    """Averages of a sequence of weights: exponential ones for each decay found, and means of checkpoints."""
    from golf.optim.averaging import Ema, Swa
    from golf.progress import Progress

    results = []
    for prefix in sorted({name.rsplit(".", 1)[0] for name in vectors if re.match(r"ema\d", name)}):
        ema, holder, worst = Ema(decay=float(prefix[3:])), nn.Module(), 0.0
        holder.x = nn.Parameter(torch.zeros_like(vectors["ema.x0"]))
        step = 0
        while f"ema.x{step}" in vectors:
            holder.x.data.copy_(vectors[f"ema.x{step}"])
            ema.update(holder, Progress(step=step))
            if f"{prefix}.after{step}" in vectors:
                worst = max(worst, max_difference(ema.average(holder)["x"], vectors[f"{prefix}.after{step}"]))
            step += 1
        results.append(measured(vector, prefix, "average", worst, FP32_TOLERANCE))
    for name in sorted(name for name in vectors if name.startswith("swa.")):
        span = re.fullmatch(r"swa\.mean_of_x(\d+)\.\.x(\d+)", name)
        if span is None:
            results.append(unsupported(vector, name, "mean", "this average of checkpoints"))
            continue
        swa, holder = Swa(start_multiplier=None, every=1), nn.Module()
        holder.x = nn.Parameter(torch.zeros_like(vectors[name]))
        for step in range(int(span.group(1)), int(span.group(2)) + 1):
            holder.x.data.copy_(vectors[f"ema.x{step}"])
            swa.update(holder, Progress(step=step))
        results.append(
            measured(vector, name, "mean", max_difference(swa.average(holder)["x"], vectors[name]), FP32_TOLERANCE)
        )
    return results
