"""Conformance of quantisers: codes and scales of given tensors, exactly."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from golf.interop.conform_result import Check, measured, unsupported


def format_by_key(key: str):
    """The golf format that claims to be the dated quantiser `key`, or None."""
    from golf.quant import formats

    table = {
        "int8_clean_20260317": "int8_rows",
        "int6_absmax_20260320": "int6_rows",
        "int6_absmax_20260321": "int6_floor_rows",
        "int5_20260320_10L": "int5_rows",
        "int6_20260320_10L": "int6_rows",
        "gate_int8_row_20260427": "int8_gate_rows",
    }
    maker = getattr(formats, table[key], None) if key in table else None
    return maker() if maker is not None else None


def check_quant(path: Path, data: Path | None) -> list[Check]:
    """Every quantiser of the file on every input it was run on."""
    from safetensors.torch import load_file

    from golf.quant.rtn import quantise_rows

    spec = json.loads(path.read_text(encoding="utf-8"))
    vectors = load_file(str(path.with_suffix(".safetensors")))
    results: list[Check] = []
    for key, meaning in spec["quantisers"].items():
        fmt = format_by_key(key)
        if fmt is None:
            results.append(unsupported(path.stem, key, "codes", meaning))
            continue
        for name in sorted(n for n in vectors if n.startswith(f"{key}.") and n.endswith(".q")):
            source = name[len(key) + 1 : -2]
            ours = quantise_rows(vectors[f"in.{source}"], fmt)
            wrong = count_differing(ours.codes, vectors[name])
            results.append(measured(path.stem, f"{key}.{source}", "codes_differing", wrong, 0))
            wrong = count_differing(ours.scales.flatten(), vectors[f"{key}.{source}.scale"].flatten())
            results.append(measured(path.stem, f"{key}.{source}", "scales_differing", wrong, 0))
    cases = sorted({name.split(".")[1] for name in vectors if name.startswith("fakequant.")})
    results += [
        unsupported(path.stem, f"fakequant.{case}", "output", "fake quantisation in training") for case in cases
    ]
    return results


def count_differing(ours: torch.Tensor, expected: torch.Tensor) -> int:
    """Elements that differ in value; all of them where shape or type differ."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        return max(ours.numel(), expected.numel(), 1)
    return int((ours != expected).sum())
