"""Conformance of artifacts written by the public scripts: every tensor after dequantisation, bit for bit, and the loss.

The list (interop.json) gives, per file, the tensors' shapes, sha256 of their float32 little-endian bytes and sums, and
the mean loss of the dequantised network on generated tokens. A file of a format that golf does not read is unsupported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.errors import UserError
from golf.interop.conform_result import Check, exact, measured, unsupported
from golf.interop.conform_weights import generate_tokens
from golf.interop.upstream import UnsupportedNetwork, build_upstream_model

LOSS_TOLERANCE = 1e-4


def check_interop(path: Path, data: Path | None, only: str | None = None) -> list[Check]:
    """All artifacts listed in interop.json, or the one called `only`."""
    artifacts = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
    chosen = {name: entry for name, entry in artifacts.items() if only in (None, name)}
    if not chosen:
        return [unsupported(only or path.stem, "-", "tensors", f"{path.name} does not list {only}")]
    return [check for name, entry in chosen.items() for check in check_artifact(path.parent / name, entry)]


def check_artifact(path: Path, entry: Mapping[str, Any]) -> list[Check]:
    """Tensors, loss, and whether writing the artifact again gives the same tensors."""
    from golf.interop.ptz import read_ptz

    vector = path.name
    if "int8_clean_per_row_v1" not in entry.get("container", ""):
        return [unsupported(vector, "-", "tensors", f"container: {entry.get('container', 'unknown')[:80]}")]
    try:
        stored = read_ptz(path)
    except UserError as reason:
        return [unsupported(vector, "-", "tensors", str(reason))]
    state = stored.dequantise()
    results = compare_tensors(vector, state, entry["dequantised"])
    try:
        results.append(compare_loss(vector, state, entry))
    except UnsupportedNetwork as reason:
        results.append(unsupported(vector, "eval", "mean_loss", str(reason)))
    return results


def compare_tensors(vector: str, state: Mapping[str, torch.Tensor], expected: Mapping[str, Any]) -> list[Check]:
    """Names, and how many tensors differ in a single bit."""
    different = []
    for name in sorted(expected.keys() & state.keys()):
        value = state[name].detach().float().contiguous()
        digest = hashlib.sha256(value.numpy().astype("<f4").tobytes()).hexdigest()
        if list(value.shape) != expected[name]["shape"] or digest != expected[name]["sha256_fp32_le"]:
            different.append(name)
    return [
        exact(vector, "dequantised", "names", sorted(state), sorted(expected)),
        measured(vector, "dequantised", "tensors_differing", len(different), 0, ", ".join(different[:3])),
    ]


def compare_loss(vector: str, state: Mapping[str, torch.Tensor], entry: Mapping[str, Any]) -> Check:
    """Mean loss of the dequantised network."""
    case = entry["eval"]
    model = build_upstream_model(state, entry["model"])
    tokens = generate_tokens(case["token_seed"], case["vocab"], case["B"], case["T"], (0,))
    with torch.no_grad():
        mean = float(model(tokens[:, :-1], tokens[:, 1:], reduction="none").double().mean())
    return measured(vector, "eval", "mean_loss", abs(mean - case["mean_loss"]), LOSS_TOLERANCE)
