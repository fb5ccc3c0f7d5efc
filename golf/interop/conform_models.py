"""Conformance of whole networks: spec.json says what the network is, vectors.safetensors and grads.json what it gives.

Per-token losses, logits and hidden states in float32, and the l2 norm of every parameter's gradient of the mean loss.
Random weights make the mean loss insensitive; the per-token losses and the gradients are what tells. Gradients are
compared tensor by tensor of the script: those of a bank are stacked from ours. A null gradient takes no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from golf.interop.conform_cases import fake_quantised, phase_of, repeat_mlps_copied, rounded_frequencies
from golf.interop.conform_result import Check, failed, max_difference, measured, relative_difference, unsupported
from golf.interop.conform_weights import generate_tokens, generate_weights
from golf.interop.upstream import (
    UnsupportedNetwork,
    build_upstream_model,
    refuse_unknown_settings,
    upstream_model_node,
)
from golf.interop.upstream_names import Piece, back_to_upstream, pieces_of

MEAN_LOSS_TOLERANCE = 1e-4
TOKEN_TOLERANCE = 1e-3  # nll, logits, hidden: absolute
GRADIENT_TOLERANCE = 1e-3  # l2 norms: relative


class Subject(NamedTuple):
    """One network and what is known of it."""

    vector: str
    spec: Mapping[str, Any]
    model: Any
    shapes: Mapping[str, Any]
    pieces: list[Piece]


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
    del state
    from safetensors.torch import load_file

    vectors = load_file(str(folder / "vectors.safetensors"))
    grads_file = folder / "grads.json"
    grads = json.loads(grads_file.read_text(encoding="utf-8")) if grads_file.exists() else {}
    subject = Subject(vector, spec, model, shapes, pieces_of(shapes))
    results: list[Check] = []
    for name, case in cases.items():
        try:
            results += check_case(subject, name, case, vectors, grads.get(name))
        except UnsupportedNetwork as reason:
            results.append(unsupported(vector, name, "case", str(reason)))
    return results


def check_case(
    subject: Subject,
    name: str,
    case: Mapping[str, Any],
    vectors: Mapping[str, torch.Tensor],
    grads: Mapping[str, Any] | None,
) -> list[Check]:
    """Compare one case under everything its name and settings ask for."""
    spec, model = subject.spec, subject.model
    tokens = generate_tokens(case["token_seed"], spec["vocab"], case["B"], case["T"], case.get("bos_positions", ()))
    stored = vectors.get(f"{name}.tokens")
    if stored is not None and not torch.equal(tokens, stored.long()):
        return [failed(subject.vector, name, "tokens", "the token rule does not reproduce the stored tokens")]
    before, model.phase = model.phase, phase_of(model, name, case)
    try:
        with (
            rounded_frequencies(model, name),
            repeat_mlps_copied(model, name, spec.get("notes", ())),
            fake_quantised(model, name, spec),
        ):
            model.zero_grad(set_to_none=True)
            nll_BT, results = compare_forward(subject, name, case, tokens, vectors)
            objective = name.startswith("training_objective")
            loss = model(tokens[:, :-1], tokens[:, 1:]) if objective else nll_BT.mean()
            results += compare_losses(subject.vector, name, case, nll_BT, loss if objective else None)
            return results + compare_gradients(subject, name, loss, grads)
    finally:
        model.phase = before
        model.zero_grad(set_to_none=True)


def boundaries_of(case: Mapping[str, Any]) -> dict[str, Any]:
    """Document boundaries of a flat row, as arguments of the network."""
    starts = case.get("cu_seqlens")
    if not starts:
        return {}
    longest = max(after - before for before, after in pairwise(starts))
    boundaries = torch.tensor(starts, dtype=torch.int32)
    return {"cu_seqlens_S": boundaries, "max_seqlen": max(int(case.get("max_seqlen") or 0), longest)}


def compare_forward(
    subject: Subject,
    name: str,
    case: Mapping[str, Any],
    tokens: torch.Tensor,
    vectors: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, list[Check]]:
    """Per-token losses (returned, with their graph), and logits and hidden states at the stored positions."""
    model, boundaries, results = subject.model, boundaries_of(case), []
    ids_BT, targets_BT = tokens[:, :-1], tokens[:, 1:]
    nll_BT = model(ids_BT, targets_BT, reduction="none", **boundaries)
    if f"{name}.nll" in vectors:
        error = max_difference(nll_BT, vectors[f"{name}.nll"])
        results.append(measured(subject.vector, name, "nll", error, TOKEN_TOLERANCE))
    rows = [p[0] for p in case.get("positions", [])]
    columns = [p[1] for p in case.get("positions", [])]
    if not rows:
        return nll_BT, results
    with torch.no_grad():
        hidden_BTD = model.hidden(ids_BT, **boundaries, quantise=model.quantises())
        found = {"logits": model.logits(hidden_BTD[rows, columns]), "hidden": hidden_BTD[rows, columns]}
    for quantity, tensor in found.items():
        expected = vectors.get(f"{name}.{quantity}")
        if expected is not None:
            error = max_difference(tensor, expected)
            results.append(measured(subject.vector, name, quantity, error, TOKEN_TOLERANCE))
    return nll_BT, results


def compare_losses(
    vector: str, name: str, case: Mapping[str, Any], nll_BT: torch.Tensor, objective: torch.Tensor | None
) -> list[Check]:
    """The mean loss and, where the case is one of the training objective, that."""
    mean = float(nll_BT.detach().double().mean())
    further = [k for k, v in case.items() if k != "mean_loss" and ("loss" in k or "objective" in k) and is_number(v)]
    expected = {"mean_loss": mean}
    if objective is not None:
        expected |= dict.fromkeys(further or ["mean_loss"], float(objective.detach()))
    return [
        measured(vector, name, quantity, abs(value - case[quantity]), MEAN_LOSS_TOLERANCE)
        for quantity, value in expected.items()
        if is_number(case.get(quantity))
    ]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare_gradients(subject: Subject, name: str, loss: torch.Tensor, grads: Mapping[str, Any] | None) -> list[Check]:
    """Worst relative error of the gradients' l2 norms; the detail names the parameter."""
    if not grads:
        return []
    loss.backward()
    ours = {parameter_name: parameter.grad for parameter_name, parameter in subject.model.named_parameters()}
    found = back_to_upstream(ours, subject.shapes, subject.pieces)
    worst, where = 0.0, ""
    for parameter_name, expected in grads.items():
        wanted = 0.0 if expected is None else expected["l2"]
        if parameter_name not in found and wanted:
            return [failed(subject.vector, name, "gradient_l2_relative", f"no parameter {parameter_name}")]
        gradient = found.get(parameter_name)  # none of its own: a tensor without elements
        norm = 0.0 if gradient is None else float(gradient.double().norm())
        error = relative_difference(norm, wanted)
        if error >= worst or error != error:
            worst, where = error, parameter_name
    return [measured(subject.vector, name, "gradient_l2_relative", worst, GRADIENT_TOLERANCE, f"worst: {where}")]


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
