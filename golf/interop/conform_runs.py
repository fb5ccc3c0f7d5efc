"""Conformance of short training runs: losses, schedules, gradient norms, weights and averages, from `hyper` alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from golf.interop.conform_optim import BF16_TOLERANCE, FP32_TOLERANCE
from golf.interop.conform_result import Check, exact, measured, relative_difference, unsupported
from golf.interop.conform_weights import generate_weights
from golf.interop.upstream import UnsupportedNetwork, build_upstream_model, refuse_unknown_settings
from golf.interop.upstream_names import Piece, back_to_upstream, pieces_of

RUN_TOLERANCE = 1e-3  # losses of all steps, relative norms
FIRST_STEPS = 5  # steps held to FP32_TOLERANCE
OPTIMISER_WORDS = ("muon", "adam", "lr", "wd", "ema", "swa", "warmdown", "warmup", "clip", "momentum", "decay")
KNOWN_HYPER = {
    *("matrix_lr", "embed_lr", "tied_embed_lr", "head_lr", "scalar_lr", "min_lr", "adam_eps"),
    *("muon_momentum", "muon_momentum_warmup_start", "muon_momentum_warmup_steps", "muon_backend_steps"),
    *("muon_row_normalize", "muon_wd", "muon_weight_decay", "embed_wd", "adam_wd", "adam_weight_decay"),
    *("muon_polar_express", "grad_clip_norm", "ema_decay", "warmdown_iters", "warmdown_frac", "warmdown_fraction"),
}


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
    for quantity in (name for name in ("lr_multiplier", "muon_momentum") if name in expected):
        error = max(abs(a - b) for a, b in zip(run[quantity], expected[quantity], strict=True))
        checks.append(measured(vector, case, quantity, error, 1e-12))
    if "looping_active" in expected:
        checks.append(exact(vector, case, "looping_active", run["looping_active"], expected["looping_active"]))
    for quantity in (name for name in ("grad_norm_per_step", "grad_norm_before_clip") if name in expected):
        norms = zip(run["grad_norm"], expected[quantity], strict=True)
        error = max(relative_difference(a, b) for a, b in norms)
        checks.append(measured(vector, case, f"{quantity}_relative", error, tolerance))
    for prefix in (name for name in ("final", "ema") if f"{name}_param_norms" in expected):
        if f"{prefix}_loss_on_batch0_eval" in expected:
            error = abs(run[f"{prefix}_loss"] - expected[f"{prefix}_loss_on_batch0_eval"])
            checks.append(measured(vector, case, f"{prefix}_loss", error, tolerance))
        wanted = {name: value["l2"] for name, value in expected[f"{prefix}_param_norms"].items()}
        found = run[f"{prefix}_norms"]
        worst = {n: relative_difference(found.get(n, float("nan")), v) for n, v in wanted.items()}
        where = max(worst, key=lambda n: (worst[n] != worst[n], worst[n]))
        quantity = f"{prefix}_param_norm_relative"
        checks.append(measured(vector, case, quantity, worst[where], tolerance, f"worst: {where}"))
    return checks


def optimiser_settings(entry: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Arguments of `muon_adam` that the scripts' hyperparameters mean; scripts with banks have bfloat16 momentum.

    Raises:
        UnsupportedNetwork: a hyperparameter of the optimiser that nobody here knows is set.
    """
    hyper = entry["hyper"]
    for key, value in hyper.items():
        if value and key not in KNOWN_HYPER and set(key.split("_")) & set(OPTIMISER_WORDS):
            raise UnsupportedNetwork(f"unknown hyperparameter {key}={value}")
    tied = hyper.get("tie_embeddings", True) and "tied_embed_lr" in hyper
    adam_wd = hyper.get("adam_wd", hyper.get("adam_weight_decay", 0.0))
    banked = any(len(tensor["shape"]) == 3 for tensor in entry["tensors"])
    return {
        "matrix_lr": hyper["matrix_lr"],
        "embedding_lr": hyper["tied_embed_lr"] if tied else hyper["embed_lr"],
        "head_lr": hyper.get("head_lr", 0.008),
        "scalar_lr": hyper["scalar_lr"],
        "matrix_weight_decay": hyper.get("muon_wd", hyper.get("muon_weight_decay", 0.0)),
        "embedding_weight_decay": hyper.get("embed_wd", adam_wd),
        "scalar_weight_decay": adam_wd,
        "newton_schulz_steps": hyper.get("muon_backend_steps", 5),
        "newton_schulz_dtype": "float32" if precision == "fp32" else "bfloat16",
        "newton_schulz_coefficients": "polar_express" if hyper.get("muon_polar_express") else "classic",
        "momentum_dtype": "bfloat16" if banked and precision == "bf16" else "float32",
        "square_first": True if banked else None,
        "row_normalise": "row" if hyper.get("muon_row_normalize") else "none",
        "betas": (hyper.get("beta1", 0.9), hyper.get("beta2", 0.95)),
        "eps": hyper.get("adam_eps", 1e-8),
        "clip_norm": hyper.get("grad_clip_norm", 0.0),
    }


def scalars_by_name(model: Any, pieces: Sequence[Piece], groups: Mapping[str, list[str]]) -> str | None:
    """A pattern of the matrices that the script gives to its Adam for scalars (small projections, where banked)."""
    from golf.models.roles import roles_of

    roles = roles_of(model)
    listed = {theirs for group in groups if "scalar" in group for theirs in groups[group]}
    matrices = [re.escape(piece.ours) for piece in pieces if piece.theirs in listed and roles[piece.ours] == "matrix"]
    return f"^(?:{'|'.join(matrices)})$" if matrices else None


def run_schedules(hyper: Mapping[str, Any]) -> Any:
    """Learning rate and momentum over the run."""
    from golf.optim.schedules import Constant, LinearRamp, Schedules, WarmdownFraction, WarmdownSteps

    fraction = hyper.get("warmdown_frac", hyper.get("warmdown_fraction"))
    if fraction is not None:
        lr: Any = WarmdownFraction(fraction, floor=hyper.get("min_lr", 0.0))
    else:
        lr = WarmdownSteps(hyper["warmdown_iters"]) if hyper.get("warmdown_iters") else Constant()
    end = hyper["muon_momentum"]
    start, steps = hyper.get("muon_momentum_warmup_start", end), hyper.get("muon_momentum_warmup_steps", 0)
    return Schedules(lr, LinearRamp(start, end, steps))


def train_run(entry: Mapping[str, Any], precision: str, tokens: torch.Tensor, steps: int) -> dict[str, Any]:
    """The run itself, in float32 but for the Newton-Schulz iteration."""
    from golf.optim.averaging import Ema
    from golf.optim.muon_adam import muon_adam
    from golf.progress import Progress

    hyper = entry["hyper"]
    optimiser = optimiser_settings(entry, precision)
    settings = entry.get("model", hyper)
    refuse_unknown_settings(entry.get("model", {}))
    state = dict(generate_weights(entry["weight_seed"], entry["tensors"]))
    model = build_upstream_model(state, settings, entry.get("structure")).train()
    shapes = {tensor["name"]: tensor["shape"] for tensor in entry["tensors"]}
    pieces = pieces_of(shapes)
    optimiser["scalar_pattern"] = scalars_by_name(model, pieces, entry.get("optimizer_groups") or {})
    optimizer, schedules = muon_adam(model, **optimiser), run_schedules(hyper)
    average = Ema(decay=hyper["ema_decay"]) if hyper.get("ema_decay") else None
    if average is not None:
        average.start(model)
    run: dict[str, Any] = {name: [] for name in ("loss_per_step", "lr_multiplier", "muon_momentum", "looping_active")}
    run["grad_norm"] = []
    for step in range(steps):
        progress = Progress(step=step, max_steps=hyper["iterations"])
        rates = schedules.values(progress)
        schedules.apply(progress, optimizer)
        run["looping_active"].append(set_looping(model, progress, hyper))
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens[step, :, :-1], tokens[step, :, 1:])
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        run["loss_per_step"].append(float(loss.detach()))
        run["lr_multiplier"].append(rates["lr"])
        run["muon_momentum"].append(rates["momentum"])
        run["grad_norm"].append(float(torch.stack([g.double().norm() for g in grads]).norm()))
        optimizer.step()
        if average is not None:
            average.update(model, Progress(step=step + 1, max_steps=hyper["iterations"]))
    run["final_norms"], run["final_loss"] = evaluate_run(model, shapes, pieces, tokens)
    if average is not None:
        model.load_state_dict(average.average(model), strict=False)
        run["ema_norms"], run["ema_loss"] = evaluate_run(model, shapes, pieces, tokens)
    return run


def set_looping(model: Any, progress: Any, hyper: Mapping[str, Any]) -> bool:
    """Tell the model how far the run is; whether it repeats layers now."""
    if not hasattr(model, "set_progress"):
        return False
    model.set_progress(progress)
    return "enable_looping_at" in hyper and progress.fraction >= hyper["enable_looping_at"]


def evaluate_run(
    model: Any, shapes: Mapping[str, Any], pieces: Sequence[Piece], tokens: torch.Tensor
) -> tuple[dict[str, float], float]:
    """Norm of each parameter under the scripts' name, and the loss on the first batch in evaluation mode."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    theirs = back_to_upstream(weights, shapes, pieces)
    norms = {name: float(tensor.double().norm()) for name, tensor in theirs.items() if tensor is not None}
    model.eval()
    with torch.no_grad():
        loss = float(model(tokens[0, :, :-1], tokens[0, :, 1:]))
    model.train()
    return norms, loss
