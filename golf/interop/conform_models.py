"""Conformance of whole networks: spec.json says what the network is, vectors.safetensors and grads.json what it gives.

Per-token losses, logits and hidden states in float32, and the l2 norm of every parameter's gradient of the mean loss.
Random weights make the mean loss insensitive; the per-token losses and the gradients are what tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.interop.conform_result import Check, failed, max_difference, measured, relative_difference, unsupported
from golf.interop.conform_weights import generate_tokens, generate_weights
from golf.interop.upstream import (
    UnsupportedNetwork,
    build_upstream_model,
    refuse_unknown_settings,
    upstream_model_node,
)

MEAN_LOSS_TOLERANCE = 1e-4
TOKEN_TOLERANCE = 1e-3  # nll, logits, hidden: absolute
GRADIENT_TOLERANCE = 1e-3  # l2 norms: relative


def check_model_folder(folder: Path) -> list[Check]:
    """All cases of one model folder."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    vector, cases = folder.name, spec["cases"]
    settings = {**spec.get("hyperparameters", {}), **spec.get("model_kwargs", {})}
    shapes = {entry["name"]: entry["shape"] for entry in spec["weights"]["tensors"]}
    try:
        refuse_unknown_settings(spec.get("model_kwargs", {}))
        upstream_model_node(shapes, settings, spec.get("structure"))  # before the weights are drawn: it may refuse
    except UnsupportedNetwork as reason:
        return [unsupported(vector, name, "network", str(reason)) for name in cases]
    state = dict(generate_weights(spec["weights"]["seed"], spec["weights"]["tensors"]))
    model = build_upstream_model(state, settings, spec.get("structure"))
    from safetensors.torch import load_file

    vectors = load_file(str(folder / "vectors.safetensors"))
    grads_file = folder / "grads.json"
    grads = json.loads(grads_file.read_text(encoding="utf-8")) if grads_file.exists() else {}
    results: list[Check] = []
    for name, case in cases.items():
        reason = unsupported_case(name, case)
        if reason:
            results.append(unsupported(vector, name, "case", reason))
            continue
        results += check_case(vector, name, case, spec, model, vectors, grads.get(name))
    return results


def unsupported_case(name: str, case: Mapping[str, Any]) -> str:
    """Why a case cannot be run on a baseline-family network, or an empty string."""
    if case.get("cu_seqlens"):
        return "document-masked attention (cu_seqlens)"
    if name in ("train_mode_fake_quant", "training_objective", "one_repeat"):
        return f"case {name}"
    return ""


def check_case(
    vector: str,
    name: str,
    case: Mapping[str, Any],
    spec: Mapping[str, Any],
    model: Any,
    vectors: Mapping[str, torch.Tensor],
    grads: Mapping[str, Any] | None,
) -> list[Check]:
    """Compare one case; `bf16_rope_freqs` is run with the stored rotary frequencies rounded to bfloat16."""
    tokens = generate_tokens(case["token_seed"], spec["vocab"], case["B"], case["T"], case.get("bos_positions", ()))
    stored = vectors.get(f"{name}.tokens")
    if stored is not None and not torch.equal(tokens, stored.long()):
        return [failed(vector, name, "tokens", "the token rule does not reproduce the stored tokens")]
    exact_frequencies = model.rope.inv_freq.clone()
    if name.startswith("bf16_rope_freqs"):
        model.rope.inv_freq.copy_(exact_frequencies.to(torch.bfloat16).float())
    try:
        return compare_forward(vector, name, case, model, tokens, vectors) + compare_gradients(
            vector, name, model, tokens, grads
        )
    finally:
        model.rope.inv_freq.copy_(exact_frequencies)


def compare_forward(
    vector: str,
    name: str,
    case: Mapping[str, Any],
    model: Any,
    tokens: torch.Tensor,
    vectors: Mapping[str, torch.Tensor],
) -> list[Check]:
    """Mean loss, per-token losses, and logits and hidden states at the stored positions."""
    ids_BT, targets_BT = tokens[:, :-1], tokens[:, 1:]
    with torch.no_grad():
        nll_BT = model(ids_BT, targets_BT, reduction="none")
        hidden_BTD, logits_BTV = model.hidden(ids_BT), model(ids_BT)
    mean = float(nll_BT.double().mean())
    results = [measured(vector, name, "mean_loss", abs(mean - case["mean_loss"]), MEAN_LOSS_TOLERANCE)]
    if f"{name}.nll" in vectors:
        error = max_difference(nll_BT, vectors[f"{name}.nll"])
        results.append(measured(vector, name, "nll", error, TOKEN_TOLERANCE))
    rows = [p[0] for p in case.get("positions", [])]
    columns = [p[1] for p in case.get("positions", [])]
    for quantity, tensor in (("logits", logits_BTV), ("hidden", hidden_BTD)):
        expected = vectors.get(f"{name}.{quantity}")
        if expected is not None and rows:
            error = max_difference(tensor[rows, columns], expected)
            results.append(measured(vector, name, quantity, error, TOKEN_TOLERANCE))
    return results


def compare_gradients(
    vector: str, name: str, model: Any, tokens: torch.Tensor, grads: Mapping[str, Any] | None
) -> list[Check]:
    """Worst relative error of the gradients' l2 norms; the detail names the parameter."""
    if not grads:
        return []
    model.zero_grad(set_to_none=True)
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    parameters = dict(model.named_parameters())
    worst, where = 0.0, ""
    for parameter_name, expected in grads.items():
        if expected is None:
            continue
        parameter = parameters.get(parameter_name)
        if parameter is None and expected["l2"] == 0:
            continue  # a tensor without elements, such as the skip weights of a one-layer network
        if parameter is None:
            return [failed(vector, name, "gradient_l2_relative", f"no parameter {parameter_name}")]
        norm = 0.0 if parameter.grad is None else float(parameter.grad.double().norm())
        error = relative_difference(norm, expected["l2"])
        if error >= worst or error != error:
            worst, where = error, parameter_name
    model.zero_grad(set_to_none=True)
    return [measured(vector, name, "gradient_l2_relative", worst, GRADIENT_TOLERANCE, f"worst: {where}")]


def check_weights_file(path: Path) -> list[Check]:
    """weights_check.json: the generator's first values and sums, with each record's own spec.json beside it."""
    records = json.loads(path.read_text(encoding="utf-8"))["records"]
    results: list[Check] = []
    for record, tensors in records.items():
        spec_file = path.parent / record / "spec.json"
        if not spec_file.exists():
            results.append(unsupported(path.stem, record, "weights", f"no {record}/spec.json beside {path.name}"))
            continue
        weights = json.loads(spec_file.read_text(encoding="utf-8"))["weights"]
        error = 0.0
        for name, value in generate_weights(weights["seed"], weights["tensors"]):
            if name in tensors:
                first = torch.tensor(tensors[name]["first"], dtype=torch.float64)
                error = max(error, max_difference(value.flatten()[: len(first)], first))
                error = max(error, abs(float(value.double().sum()) - tensors[name]["sum_fp64"]) / max(value.numel(), 1))
        results.append(measured(path.stem, record, "weights", error, 1e-7))
    return results
