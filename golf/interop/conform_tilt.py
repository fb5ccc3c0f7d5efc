"""Conformance of n-gram hints: the hint and its strength at every position, and the losses tilted towards it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golf.interop.conform_result import Check, exact, measured, unsupported

TILT_TOLERANCE = 1e-9


def is_tilt(content: Mapping[str, Any]) -> bool:
    """Whether a component file holds n-gram hints."""
    cases = content.get("cases")
    nested = [case for case in cases.values() if isinstance(case, Mapping)] if isinstance(cases, Mapping) else []
    return any("base_beta" in case.get("settings", {}) for case in nested)


def check_tilt(path: Path, data: Path | None) -> list[Check]:
    """Hints and strengths of every position, and the tilted losses of seeded logits."""
    from safetensors.numpy import load_file

    from golf.data.bytes import byte_table_from_sentencepiece
    from golf.interop.conform_data import find_tokenizer, missing_tokenizer

    spec = json.loads(path.read_text(encoding="utf-8"))
    arrays = load_file(str(path.with_suffix(".safetensors")))
    model_file = find_tokenizer(data, spec["tokenizer_sha256"])
    if model_file is None:
        return [unsupported(path.stem, "all", "hints", missing_tokenizer(spec["tokenizer_sha256"], data))]
    table = byte_table_from_sentencepiece(model_file)
    return [
        check
        for name, case in spec["cases"].items()
        for check in tilt_checks(path.stem, name, case["settings"], table, arrays, spec.get("tilt_logits", ""))
    ]


def tilt_checks(
    vector: str, name: str, settings: Mapping[str, Any], table: Any, arrays: Mapping[str, np.ndarray], rule: str
) -> list[Check]:
    """One case. `open_table_bits` is the size of the script's hash tables; golf's are exact."""
    from golf.evaluation.tilt import NgramHints, tilted_nll

    switches = {key: value for key, value in settings.items() if key != "open_table_bits"}
    found = NgramHints(table.leading_space, table.boundary, **switches)
    hints, betas = found.hints(arrays["tokens"].astype(np.int64).tolist())
    expected = arrays[f"{name}.hints"]
    checks = [
        exact(vector, name, "hints", int((hints != expected).sum()), 0),
        measured(vector, name, "betas", float(np.abs(betas - arrays[f"{name}.betas"]).max()), TILT_TOLERANCE),
    ]
    positions, targets = arrays[f"{name}.tilt.positions"], arrays[f"{name}.tilt.targets"]
    logits = seeded_logits(rule)
    if logits is None:
        return [*checks, unsupported(vector, name, "tilted nll", f"rule for the logits: {rule[:80]}")]
    logits = logits[: len(positions)].astype(np.float64)
    peak = logits.max(-1, keepdims=True)
    log_p = logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))
    rows = np.arange(len(positions))
    nll, own_hints = -log_p[rows, targets], hints[positions]
    tilted = tilted_nll(nll, log_p[rows, np.maximum(own_hints, 0)], targets, own_hints, betas[positions])
    given = arrays[f"{name}.tilt.nll_in"]
    checks.append(measured(vector, name, "nll", float(np.abs(nll - given).max()), TILT_TOLERANCE))
    error = np.abs(tilted - nll - (arrays[f"{name}.tilt.nll_out"] - given)).max()
    return [*checks, measured(vector, name, "tilted nll", float(error), TILT_TOLERANCE)]


def seeded_logits(rule: str) -> np.ndarray | None:
    """Logits from `default_rng([SEED, n]).standard_normal((rows, V), …), SEED=s`."""
    parts = re.search(r"default_rng\(\[SEED, ?(\d+)\]\)\.standard_normal\(\((\d+), ?(\d+)\).*SEED ?= ?(\d+)", rule)
    if parts is None:
        return None
    stream, rows, columns, seed = (int(number) for number in parts.groups())
    return np.random.default_rng([seed, stream]).standard_normal((rows, columns), dtype=np.float32)
