"""Conformance of quantisers: codes and scales of given tensors, exactly, and fake-quantised linear maps."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from golf.interop.conform_result import Check, max_difference, measured, unsupported

# Dated quantisers -> format; a search over clips has a treatment of its own.
QUANTISERS = (
    (r"int8_clean_\d{8}.*", "int8_rows"),
    (r"gate_int8_row_\d{8}.*", "int8_gate_rows"),
    (r"int(\d)_(?:absmax_)?20260320.*", "int{}_absmax_rows"),
    (r"int(\d)_(?:absmax_)?\d{8}.*", "int{}_floor_rows"),
)
CLIP_SEARCH = r"int(\d)_clipsearch_\d{8}.*"
# Dated fake quantisers -> format, rounding; a number at the end of a soft one is its slope.
FAKE_QUANTISERS = (
    (r"ste_20260319_(int6|smear).*", "training_int6_quantile", "ste"),
    (r"ste_20260319_mlp3x.*", "training_int8_rows", "ste"),
    (r"ste_20260319_(10L|seq2048).*", "training_int6_clip_floor", "ste"),
    (r"ste_(absmax_)?\d{8}", "training_int6_floor_rows", "ste"),
    (r"soft_round_\d{8}_alpha([\d.]+)", "training_int6_symmetric_rows", "soft"),
)


def format_by_key(key: str) -> Any:
    """The golf format that claims to be the dated quantiser `key`, or None."""
    from golf.quant.formats import FORMAT_NAMES, absmax_rows, floor_rows, format_named

    for pattern, template in QUANTISERS:
        match = re.fullmatch(pattern, key)
        if match:
            if template in FORMAT_NAMES:
                return format_named(template)
            return (floor_rows if "floor" in template else absmax_rows)(int(match[1]))
    return None


def quantiser_by_key(key: str) -> Any:
    """Weight -> stored tensor of the dated quantiser `key`, or None."""
    from golf.quant.clip import ClipSearch
    from golf.quant.rtn import quantise_rows

    search = re.fullmatch(CLIP_SEARCH, key)
    if search:
        method = ClipSearch(int(search[1]))
        return lambda weight: method.convert(key, weight)
    fmt = format_by_key(key)
    if fmt is None:
        return None
    # The records keep one scale for whatever is not a matrix.
    return lambda weight: quantise_rows(weight, fmt if weight.ndim == 2 else replace(fmt, granularity="tensor"))


def check_quant(path: Path, data: Path | None) -> list[Check]:
    """Every quantiser of the file on every input it was run on, then the fake-quantised linear maps."""
    from safetensors.torch import load_file

    spec = json.loads(path.read_text(encoding="utf-8"))
    vectors = load_file(str(path.with_suffix(".safetensors")))
    results: list[Check] = []
    for key, meaning in spec["quantisers"].items():
        quantise = quantiser_by_key(key)
        if quantise is None:
            results.append(unsupported(path.stem, key, "codes", meaning))
            continue
        for name in sorted(n for n in vectors if n.startswith(f"{key}.") and n.endswith(".q")):
            source = name[len(key) + 1 : -2]
            ours = quantise(vectors[f"in.{source}"])
            wrong = count_differing(ours.codes, vectors[name])
            results.append(measured(path.stem, f"{key}.{source}", "codes_differing", wrong, 0))
            wrong = count_differing(ours.scales.flatten(), vectors[f"{key}.{source}.scale"].flatten())
            results.append(measured(path.stem, f"{key}.{source}", "scales_differing", wrong, 0))
    names = [n for n in vectors if n.startswith("fakequant.") and n.endswith(".x")]
    for case in sorted(name[len("fakequant.") : -2] for name in names):
        results += check_fake_quantised(path.stem, case, vectors)
    return results


def operation_by_key(key: str) -> Any:
    """The linear operation and slope that claim to be the dated fake quantiser `key`, or None."""
    from golf.quant.qat_linear import QatLinear
    from golf.quant.training_formats import training_format_named

    for pattern, name, rounding in FAKE_QUANTISERS:
        match = re.fullmatch(pattern, key)
        if match:
            slope = float(match[1]) if rounding == "soft" else 0.0
            return QatLinear(training_format_named(name), rounding), slope
    return None


def check_fake_quantised(vector: str, case: str, vectors: dict[str, torch.Tensor]) -> list[Check]:
    """Forward, both gradients, and the forward with fake quantisation off."""
    found = operation_by_key(case)
    if found is None:
        return [unsupported(vector, f"fakequant.{case}", "y", "a fake quantiser that golf does not know by this name")]
    operation, slope = found
    on, off = SimpleNamespace(quantise=True, softness=torch.tensor(slope)), SimpleNamespace(quantise=False)
    given = {n.rsplit(".", 1)[1]: t for n, t in vectors.items() if n.rsplit(".", 1)[0] == f"fakequant.{case}"}
    results = compare_linear(vector, f"fakequant.{case}", lambda x, w: operation(x, w, on), given)
    # One evaluation serves every slope of a soft quantiser.
    evaluated = vectors.get(f"fakequant.{case}.y_eval", vectors.get(f"fakequant.{case.split('_alpha')[0]}.y_eval"))
    if evaluated is not None:
        difference = max_difference(operation(given["x"], given["W"], off), evaluated)
        results.append(measured(vector, f"fakequant.{case}", "y_eval", difference, 1e-5))
    return results


def compare_linear(vector: str, case: str, operation: Any, given: dict[str, torch.Tensor]) -> list[Check]:
    """y, grad_x and grad_W of a linear map against given ones."""
    x, weight = given["x"].clone().requires_grad_(), given["W"].clone().requires_grad_()
    y = operation(x, weight)
    (y * given["grad_out"]).sum().backward()
    ours = {"y": y, "grad_x": x.grad, "grad_W": weight.grad}
    return [
        measured(vector, case, quantity, max_difference(value, given[quantity]), 1e-5)
        for quantity, value in ours.items()
        if quantity in given
    ]


def check_ternary(path: Path, data: Path | None) -> list[Check]:
    """Ternary linear maps; codes to bytes and back, scales and decoded weights; float8, "fp4" and float16 storage."""
    from safetensors.torch import load_file

    spec = json.loads(path.read_text(encoding="utf-8"))
    vectors = load_file(str(path.with_suffix(".safetensors")))
    groups = sorted({entry["group_size"] for entry in spec["entries"].values()})
    results = check_ternary_linears(path.stem, vectors, groups)
    results += check_packings(path.stem, vectors, spec["pack"])
    for name, entry in spec["entries"].items():
        results += check_ternary_storage(path.stem, name, entry, vectors)
    decoded = {n.removesuffix(".dequant") for n in vectors if n.endswith(".dequant")}
    for name in sorted(decoded - set(spec["entries"])):
        kind, source = name.split(".", 1)
        weight = vectors["in." + re.sub(r"^g\d+\.", "", source)]
        stored = stored_as_float(weight, "fp4" if kind == "fp4" else "fp8")
        results.append(measured(path.stem, name, "weights", max_difference(stored, vectors[f"{name}.dequant"]), 0))
    return results


def check_packings(vector: str, vectors: dict[str, torch.Tensor], cases: list[dict[str, Any]]) -> list[Check]:
    """Both packings of given codes, byte for byte, and the codes out of the given bytes."""
    from golf.quant.ternary_packing import TERNARY_PACKERS

    results = []
    for case in cases:
        given = case["q"] if isinstance(case["q"], list) else vectors[case["q"].split()[-1]]
        codes = torch.as_tensor(given, dtype=torch.int8)
        for packing, (pack, unpack) in TERNARY_PACKERS.items():
            expected = torch.tensor(list(bytes.fromhex(case[f"{packing}_hex"])), dtype=torch.uint8)
            label = f"pack.n{case['n']}.{packing}"
            results.append(measured(vector, label, "bytes_differing", count_differing(pack(codes), expected), 0))
            wrong = count_differing(unpack(expected, case["n"]), codes)
            results.append(measured(vector, label, "codes_differing", wrong, 0))
    return results


def check_ternary_linears(vector: str, vectors: dict[str, torch.Tensor], groups: list[int]) -> list[Check]:
    """Plain and input-normalised; the file does not say with which of its group sizes: the nearest one is reported."""
    from golf.models.linear.ternary import TernaryLinear

    given = {n.split(".")[1]: t for n, t in vectors.items() if n.startswith("ternary_linear_fp32.")}
    tried = []
    for group in groups:
        plain = TernaryLinear(group)
        results = compare_linear(vector, f"ternary_linear_fp32 (group {group})", plain, given)
        expected = vectors.get("normed_ternary_linear_fp32.y")
        if expected is not None:
            normed = TernaryLinear(group, norm_input=True)(given["x"], given["W"])
            case = f"normed_ternary_linear_fp32 (group {group})"
            results.append(measured(vector, case, "y", max_difference(normed, expected), 1e-5))
        tried.append(results)
    return min(tried, key=lambda results: sum(check.error or 0.0 for check in results), default=[])


def check_ternary_storage(
    vector: str, name: str, entry: dict[str, Any], vectors: dict[str, torch.Tensor]
) -> list[Check]:
    """One stored matrix: scales, bytes and decoded weights made here, and weights decoded from the given bytes."""
    from golf.quant.formats import ternary_groups
    from golf.quant.rtn import quantise_rows
    from golf.quant.ternary_packing import PackedTernaryTensor, pack_ternary

    weight = vectors["in." + re.sub(r"^\w+\.g\d+\.", "", name)]
    given, scales, expected = (vectors[f"{name}.{part}"] for part in ("packed", "scale", "dequant"))
    stored = quantise_rows(weight, ternary_groups(entry["group_size"]))
    ours = pack_ternary(stored, "bitmask" if "bitmask" in entry["type"] else "base3")
    theirs = PackedTernaryTensor.from_parts(
        ours.meta(), {"codes": given, "scales": scales.reshape(stored.scales.shape)}
    )
    return [
        measured(vector, name, "scales_differing", count_differing(stored.scales.flatten(), scales), 0),
        measured(vector, name, "bytes_differing", count_differing(ours.packed, given), 0),
        measured(vector, name, "weights", max_difference(stored.dequantise(), expected), 1e-5),
        measured(vector, name, "weights_of_given_bytes", max_difference(theirs.dequantise(), expected), 1e-5),
    ]


def stored_as_float(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """The record's other tensors: matrices as float8 or "fp4" (4-bit integer rows), everything else as float16."""
    from golf.quant.formats import QuantFormat, fp8_e4m3
    from golf.quant.rtn import quantise_rows

    four_bits = QuantFormat(bits=4, code_min=-7, code_max=7, scale_floor=1e-12)
    fmt = four_bits if kind == "fp4" else fp8_e4m3()
    return quantise_rows(weight, fmt).dequantise() if weight.ndim == 2 else weight.half().float()


def count_differing(ours: torch.Tensor, expected: torch.Tensor) -> int:
    """Elements that differ in value; all of them where shape or type differ."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        return max(ours.numel(), expected.numel(), 1)
    return int((ours != expected).sum())
