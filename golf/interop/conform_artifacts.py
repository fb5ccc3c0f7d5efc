"""Conformance of artifacts written by the public scripts: every tensor after dequantisation, bit for bit, and the loss.

The list (interop.json) gives, per file, the tensors' shapes, sha256 of their float32 little-endian bytes and sums, and
the mean loss of the dequantised network on generated tokens.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.errors import UserError
from golf.interop.conform_result import Check, failed, measured, unsupported
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
    """Tensors, whether writing an int8 artifact again keeps them, and the loss."""
    from golf.interop.ptz import PTZ_FORMAT, differing_tensors, read_ptz, write_ptz

    vector = path.name
    try:
        stored = read_ptz(path)
    except UserError as reason:
        return [failed(vector, "-", "tensors", str(reason))]
    state = stored.dequantise()
    problems = differing_tensors(state, entry["dequantised"])
    results = [measured(vector, "dequantised", "tensors_differing", len(problems), 0, "; ".join(problems[:3]))]
    if PTZ_FORMAT in entry.get("container", ""):  # the one format that golf writes
        with tempfile.TemporaryDirectory() as folder:
            write_ptz(Path(folder) / "again.ptz", stored)
            again = differing_tensors(read_ptz(Path(folder) / "again.ptz").dequantise(), entry["dequantised"])
        results.append(measured(vector, "written again", "tensors_differing", len(again), 0, "; ".join(again[:3])))
    if "eval" not in entry:
        return results
    try:
        results.append(compare_loss(vector, state, entry))
    except UnsupportedNetwork as reason:
        results.append(unsupported(vector, "eval", "mean_loss", str(reason)))
    return results


def compare_loss(vector: str, state: Mapping[str, torch.Tensor], entry: Mapping[str, Any]) -> Check:
    """Mean loss of the dequantised network."""
    case = entry["eval"]
    # Documents start at position 0 only, so that a smear gate's mask makes no difference.
    structure = {"smear": {"bos_mask": True}, **(entry.get("structure") or {})}
    model = build_upstream_model(state, entry["model"], structure)
    tokens = generate_tokens(case["token_seed"], case["vocab"], case["B"], case["T"], (0,))
    with torch.no_grad():
        mean = float(model(tokens[:, :-1], tokens[:, 1:], reduction="none").double().mean())
    return measured(vector, "eval", "mean_loss", abs(mean - case["mean_loss"]), LOSS_TOLERANCE)
