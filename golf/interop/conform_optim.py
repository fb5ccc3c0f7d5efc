"""Conformance of optimisation: Newton-Schulz, Muon steps, averaging, and short training runs.

The `fp32` vectors run the Newton-Schulz iteration in float32 and are compared tightly; the `bf16` ones run it in
bfloat16, as real runs do, and differ by rounding from machine to machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from golf.interop.conform_result import Check, max_difference, measured, relative_difference, unsupported
from golf.interop.conform_weights import generate_weights
from golf.interop.upstream import UnsupportedNetwork, build_upstream_model, refuse_unknown_settings

FP32_TOLERANCE = 1e-4
BF16_TOLERANCE = 2e-2
RUN_TOLERANCE = 1e-3  # losses of all steps, relative norms
FIRST_STEPS = 5  # steps held to FP32_TOLERANCE


def check_optim(path: Path, data: Path | None) -> list[Check]:
    """Everything in an optim file: iterations by tensor name, optimizer steps and averages by case."""
    from safetensors.torch import load_file

    vectors = load_file(str(path.with_suffix(".safetensors")))
    results = [
        check for key in vectors if key.endswith(".G") for check in check_iterations(path.stem, key[:-2], vectors)
    ]
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        if "momentum_per_step" in case:
            results.append(check_muon_case(path.stem, case, vectors))
        elif case["key"].startswith("ema"):
            results += check_averages(path.stem, vectors)
    results += [unsupported(path.stem, key, "mean", "mean of checkpoints") for key in vectors if key.startswith("swa.")]
    return results


def check_iterations(vector: str, key: str, vectors: Mapping[str, torch.Tensor]) -> list[Check]:
    """The orthogonalised matrices of one input, for each iteration stored beside it."""
    from golf.optim.muon import orthogonalise

    results = []
    for name in sorted(name for name in vectors if name.startswith(f"{key}.") and not name.endswith(".G")):
        wanted = re.fullmatch(r"classic_(fp32|bf16)(?:_(\d+)steps)?", name[len(key) + 1 :])
        if wanted is None:
            results.append(unsupported(vector, name, "matrix", f"iteration {name[len(key) + 1 :]}"))
            continue
        dtype = torch.float32 if wanted.group(1) == "fp32" else torch.bfloat16
        tolerance = FP32_TOLERANCE if wanted.group(1) == "fp32" else BF16_TOLERANCE
        ours = orthogonalise(vectors[f"{key}.G"], int(wanted.group(2) or 5), dtype).float()
        results.append(measured(vector, name, "matrix", max_difference(ours, vectors[name]), tolerance))
    return results


def check_muon_case(vector: str, case: Mapping[str, Any], vectors: Mapping[str, torch.Tensor]) -> Check:
    """Consecutive Muon steps with changing rates on several matrices."""
    from golf.optim.composite import Composite
    from golf.optim.muon import MuonRule

    key, hyper = case["key"], case["hyper"]
    for feature in ("row_normalize", "polar_express"):
        if hyper.get(feature):
            return unsupported(vector, key, "weights", f"Muon with {feature}")
    if any(len(shape) != 2 for shape in case["shapes"]):
        return unsupported(vector, key, "weights", "Muon on stacked matrices")
    fp32 = key.endswith("_fp32")
    params = [nn.Parameter(vectors[f"{key}.p{i}.init"].clone()) for i in range(len(case["shapes"]))]
    group = {"params": params, "rule": "muon", "base_lr": 1.0, "weight_decay": hyper.get("weight_decay", 0.0)}
    rule = MuonRule(hyper.get("backend_steps", 5), "float32" if fp32 else "bfloat16")
    optimizer = Composite([group], {"muon": rule})
    worst = 0.0
    for step, (lr, momentum) in enumerate(zip(case["lr_per_step"], case["momentum_per_step"])):
        for i, parameter in enumerate(params):
            parameter.grad = vectors[f"{key}.p{i}.grad{step}"].clone()
        optimizer.set_rates(lr, momentum)
        optimizer.step()
        for i, parameter in enumerate(params):
            worst = max(worst, max_difference(parameter, vectors[f"{key}.p{i}.after{step}"]))
    return measured(vector, key, "weights", worst, FP32_TOLERANCE if fp32 else BF16_TOLERANCE)


def check_averages(vector: str, vectors: Mapping[str, torch.Tensor]) -> list[Check]:
    """Exponential moving averages of a sequence of weights, for each decay found."""
    from golf.optim.averaging import Ema
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
    return results


def check_trajectory(path: Path, data: Path | None) -> list[Check]:
    """Short training runs: every entry of the file that has a model, in each precision it was run in."""
    from safetensors.torch import load_file

    spec = json.loads(path.read_text(encoding="utf-8"))
    tokens = load_file(str(path.with_suffix(".safetensors")))["tokens"].long()
    results: list[Check] = []
    for name, entry in spec.items():
        if not isinstance(entry, dict) or "tensors" not in entry:
            continue
        for precision in (key for key in ("fp32", "bf16") if key in entry):
            case = f"{name}.{precision}"
            try:
                results += compare_run(path.stem, case, entry, entry[precision], precision, tokens)
            except UnsupportedNetwork as reason:
                results.append(unsupported(path.stem, case, "loss_per_step", str(reason)))
    return results


def compare_run(
    vector: str,
    case: str,
    entry: Mapping[str, Any],
    expected: Mapping[str, Any],
    precision: str,
    tokens: torch.Tensor,
) -> list[Check]:
    """Train as the entry says and compare what was recorded."""
    run = train_run(entry, precision, tokens, len(expected["loss_per_step"]))
    fp32 = precision == "fp32"
    tolerance = RUN_TOLERANCE if fp32 else BF16_TOLERANCE
    errors = [abs(a - b) for a, b in zip(run["loss_per_step"], expected["loss_per_step"], strict=True)]
    first = FP32_TOLERANCE if fp32 else BF16_TOLERANCE
    checks = [
        measured(vector, case, "loss_first_steps", max(errors[:FIRST_STEPS]), first),
        measured(vector, case, "loss_all_steps", max(errors), tolerance),
    ]
    for quantity in ("lr_multiplier", "muon_momentum"):
        error = max(abs(a - b) for a, b in zip(run[quantity], expected[quantity], strict=True))
        checks.append(measured(vector, case, quantity, error, 1e-12))
    norms = zip(run["grad_norm_per_step"], expected["grad_norm_per_step"], strict=True)
    error = max(relative_difference(a, b) for a, b in norms)
    checks.append(measured(vector, case, "grad_norm_relative", error, tolerance))
    error = abs(run["final_loss"] - expected["final_loss_on_batch0_eval"])
    checks.append(measured(vector, case, "final_loss", error, tolerance))
    norms_by_name = {name: value["l2"] for name, value in expected["final_param_norms"].items()}
    worst = {n: relative_difference(run["norms"].get(n, float("nan")), v) for n, v in norms_by_name.items()}
    where = max(worst, key=lambda n: (worst[n] != worst[n], worst[n]))
    checks.append(measured(vector, case, "param_norm_relative", worst[where], tolerance, f"worst: {where}"))
    return checks


def train_run(entry: Mapping[str, Any], precision: str, tokens: torch.Tensor, steps: int) -> dict[str, Any]:
    """The run itself, in float32 but for the Newton-Schulz iteration."""
    from golf.optim.muon_adam import muon_adam
    from golf.optim.schedules import LinearRamp, Schedules, WarmdownSteps
    from golf.progress import Progress

    hyper = entry["hyper"]
    settings = entry.get("model", hyper)
    refuse_unknown_settings(entry.get("model", {}))
    model = build_upstream_model(dict(generate_weights(entry["weight_seed"], entry["tensors"])), settings).train()
    optimizer = muon_adam(
        model,
        matrix_lr=hyper["matrix_lr"],
        embedding_lr=hyper["embed_lr"],
        head_lr=hyper.get("head_lr", 0.008),
        scalar_lr=hyper["scalar_lr"],
        newton_schulz_steps=hyper["muon_backend_steps"],
        newton_schulz_dtype="float32" if precision == "fp32" else "bfloat16",
        betas=(hyper["beta1"], hyper["beta2"]),
        eps=hyper["adam_eps"],
        clip_norm=hyper.get("grad_clip_norm", 0.0),
    )
    ramp = (hyper["muon_momentum_warmup_start"], hyper["muon_momentum"], hyper["muon_momentum_warmup_steps"])
    schedules = Schedules(WarmdownSteps(hyper["warmdown_iters"]), LinearRamp(*ramp))
    run: dict[str, Any] = {"loss_per_step": [], "lr_multiplier": [], "muon_momentum": [], "grad_norm_per_step": []}
    for step in range(steps):
        rates = schedules.apply(Progress(step=step, max_steps=hyper["iterations"]), optimizer)
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens[step, :, :-1], tokens[step, :, 1:])
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        run["loss_per_step"].append(float(loss.detach()))
        run["lr_multiplier"].append(rates["lr"])
        run["muon_momentum"].append(rates["momentum"])
        run["grad_norm_per_step"].append(float(torch.stack([g.double().norm() for g in grads]).norm()))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        run["final_loss"] = float(model(tokens[0, :, :-1], tokens[0, :, 1:]))
    run["norms"] = {name: float(parameter.detach().double().norm()) for name, parameter in model.named_parameters()}
    return run
