"""Conformance of GPTQ, of its Hessians, and of a whole mixed quantiser with low-rank corrections.

Scales are exact. Float summation order may flip isolated codes: at most 0.2 % may differ, and the Hessian-weighted
error must be the published one to 0.1 %. What a case is, is read from its settings; a table from dated key to option
is needed only for the search over clips.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.interop.conform_quant import count_differing
from golf.interop.conform_result import Check, exact, max_difference, measured, relative_difference, unsupported

CODES_SHARE = 0.002
H_ERROR_RELATIVE = 1e-3
HESSIAN_RELATIVE = 1e-4
SMALL_NUMEL = 65_536
GATE_NUMEL = (32, 8192)  # between which the last records store a gate as int8 rows
# What scripts call the solver's settings -> golf's.
SOLVER_SETTINGS = {"percdamp": "damping", "damping": "damping", "block_size": "block", "actorder": "act_order"}

Vectors = Mapping[str, torch.Tensor]


def component_check(content: Mapping[str, Any]) -> Any:
    """The check of a component file of this family, None for other files."""
    cases = content.get("cases")
    if isinstance(cases, list) and any(isinstance(case, dict) and "h_error" in case for case in cases):
        return check_gptq
    if isinstance(cases, dict) and any(isinstance(case, dict) and "hessians" in case for case in cases.values()):
        return check_hessians
    return check_mixed if {"settings", "meta", "reconstruction"} <= set(content) else None


# -- one matrix at a time ---------------------------------------------------------------------------------------------
def method_of(key: str, case: Mapping[str, Any]) -> Any:
    """The golf quantiser that claims to be a case, or None."""
    from golf.quant.gptq import Gptq
    from golf.quant.gptq_search import GptqSearch

    named = re.search(r"_int(\d)$", key)  # where the case gives no range
    bits = int(case["clip_range"]).bit_length() + 1 if "clip_range" in case else int(named[1]) if named else 6
    solver = {ours: case[theirs] for theirs, ours in SOLVER_SETTINGS.items() if theirs in case}
    if "clip_sigmas" in case:
        return Gptq(bits, float(case["clip_sigmas"]), float(case.get("hessian_clip_lambda", 0.0)), **solver)
    return GptqSearch(bits, **solver) if re.fullmatch(r"gptq_\d{8}.*|clipsearch.*", key) else None


def check_gptq(path: Path, data: Path | None) -> list[Check]:
    """Codes, scales and Hessian-weighted error of every case; then packings of low-rank factors."""
    spec, vectors = read_component(path)
    results: list[Check] = []
    for case in spec["cases"]:
        prefix, _, rest = case["key"].partition(".")
        inside = f"{prefix}.W" in vectors
        weight, hessian = (vectors[f"{prefix}.{name}" if inside else name] for name in ("W", "H"))
        method = method_of(rest if inside else case["key"], case)
        if method is None:
            results.append(unsupported(path.stem, case["key"], "codes", "a quantiser golf does not know by this name"))
            continue
        stored = method.convert(case["key"], weight, None if "no_hessian" in case["key"] else hessian)
        results += compare_codes(path.stem, case["key"], stored, vectors)
        error = (weight - stored.dequantise()).double()
        weighted = float((error @ hessian.double() * error).sum())
        difference = relative_difference(weighted, case["h_error"])
        results.append(measured(path.stem, case["key"], "h_error_relative", difference, H_ERROR_RELATIVE))
    packings = sorted(name.removesuffix(".qA") for name in vectors if name.endswith(".qA"))
    return results + [check for name in packings for check in check_packing(path.stem, name, vectors)]


def compare_codes(vector: str, case: str, stored: Any, vectors: Vectors, prefix: str = "") -> list[Check]:
    """The share of differing codes, and the number of differing scales."""
    codes, scales = vectors[f"{prefix}{case}.q"], vectors[f"{prefix}{case}.scale"]
    share = count_differing(stored.codes, codes) / max(codes.numel(), 1)
    wrong = count_differing(stored.scales.flatten(), scales.flatten())
    return [
        measured(vector, case, "codes_differing_share", share, CODES_SHARE),
        measured(vector, case, "scales_differing", wrong, 0),
    ]


def check_packing(vector: str, name: str, vectors: Vectors) -> list[Check]:
    """Codes and scales of two factors; a packing without factors of its own has those of the file's first."""
    from golf.quant.lowrank import pack_factors

    source = name if f"{name}.A" in vectors else min(n.removesuffix(".A") for n in vectors if n.endswith(".A"))
    left, right = vectors[f"{source}.A"], vectors[f"{source}.B"]
    symmetric = vectors[f"{name}.sA"].numel() == len(left) and vectors[f"{name}.sB"].numel() == len(right)
    named = re.search(r"sym(\d+)$", name)
    group = 0 if named or symmetric else right.numel() // max(1, vectors[f"{name}.sB"].numel())
    ours = pack_factors(left, right, group, int(named[1]) if named else 4)
    return [
        measured(vector, name, quantity, count_differing(mine.flatten(), vectors[f"{name}.{quantity}"].flatten()), 0)
        for quantity, mine in zip(("qA", "sA", "qB", "sB"), ours)
    ]


# -- a whole state ----------------------------------------------------------------------------------------------------
def role_by_shape(name: str, weight: torch.Tensor) -> str:
    if "tok_emb" in name:
        return "embedding"
    if "attn_gate" in name and weight.ndim == 2 and GATE_NUMEL[0] <= weight.numel() <= GATE_NUMEL[1]:
        return "gate"
    return "matrix" if weight.ndim == 2 else "scalar"


def mixed_plan(settings: Mapping[str, Any], weights: Vectors) -> Any:
    """The quantisation plan that the settings describe."""
    from golf.quant.gptq import Gptq
    from golf.quant.lowrank import LowRankCorrection
    from golf.quant.plan import QuantPlan

    bits = settings["matrix_bits"]
    by_class = {r"\.mlp\.": settings.get("mlp_clip_sigmas"), r"\.attn\.": settings.get("attn_clip_sigmas")}
    treatments = {pattern: Gptq(bits, float(factor)) for pattern, factor in by_class.items() if factor}
    overrides = {
        f"^{re.escape(name)}$": treatment
        for pattern, treatment in treatments.items()
        for name, weight in weights.items()
        if weight.numel() > SMALL_NUMEL and re.search(pattern, name)
    }
    correction = None
    if settings.get("lqer_enabled"):
        group = settings.get("lqer_asym_group", 64) if settings.get("lqer_asym_enabled") else 0
        rank, top = settings["lqer_rank"], settings["lqer_top_k"]
        correction = LowRankCorrection(rank, top, group, settings.get("lqer_factor_bits", 4))
    return QuantPlan(
        matrix=Gptq(bits, float(settings["matrix_clip_sigmas"])),
        embedding=Gptq(settings["embed_bits"], float(settings["embed_clip_sigmas"])),
        gate="int8_gate_rows" if settings.get("gated_attn_quant_gate") else "float16",
        scalar="float16",
        small_numel=SMALL_NUMEL,
        overrides=overrides,
        correction=correction,
    )


def description(stored: Any) -> str:
    """A stored tensor in the words of such a file."""
    if stored.kind == "plain":
        return f"passthrough ({str(stored.values.dtype).removeprefix('torch.')})"
    base = getattr(stored, "base", stored)
    if base.format.clip != "deviation":
        return "gate_int8_row"
    corrected = "" if base is stored else "+lqer_asym" if stored.left_scales.numel() == 1 else "+lqer"
    return f"gptq (int{base.format.bits}){corrected}"


def check_mixed(path: Path, data: Path | None) -> list[Check]:
    """Every tensor of a state dict: what became of it, its codes and scales, its decoded values, its correction."""
    spec, vectors = read_component(path)
    weights = {name[2:]: tensor for name, tensor in vectors.items() if name.startswith("W.")}
    hessians = {name[2:]: tensor for name, tensor in vectors.items() if name.startswith("H.")}
    roles = {name: role_by_shape(name, weight) for name, weight in weights.items()}
    state = mixed_plan(spec["settings"], weights).quantise(weights, roles, hessians)
    results: list[Check] = []
    for name, meaning in spec["meta"].items():
        stored, vector = state.tensors[name], path.stem
        results.append(exact(vector, name, "treatment", description(stored), meaning))
        if f"out.{name}.q" in vectors:
            results += compare_codes(vector, name, getattr(stored, "base", stored), vectors, "out.")
        elif f"out.{name}.gq" in vectors and hasattr(stored, "codes"):
            results.append(
                measured(vector, name, "codes_differing", count_differing(stored.codes, vectors[f"out.{name}.gq"]), 0)
            )
            wrong = count_differing(stored.scales, vectors[f"out.{name}.gs"])
            results.append(measured(vector, name, "scales_differing", wrong, 0))
        elif f"out.{name}" in vectors and stored.kind == "plain":
            results.append(measured(vector, name, "values", max_difference(stored.values, vectors[f"out.{name}"]), 0))
        norm = float(stored.dequantise().double().norm())
        difference = relative_difference(norm, spec["reconstruction"][name]["l2"])
        results.append(measured(vector, name, "l2_relative", difference, 1e-4))
        product = vectors.get(f"lqer_product.{name}")
        if product is not None and hasattr(stored, "correction"):
            error = max_difference(stored.correction()[: len(product)], product)
            results.append(measured(vector, name, "correction", error, code_step(stored)))
    return results


def code_step(stored: Any) -> float:
    """How far one code of one factor moves the product."""
    left = stored.left.abs().max() * stored.left_scales.float().max()
    right = stored.right.abs().max() * stored.right_scales.float().max()
    return float(torch.maximum(stored.left_scales.float().max() * right, left * stored.right_scales.float().max()))


# -- Hessians ---------------------------------------------------------------------------------------------------------
def check_hessians(path: Path, data: Path | None) -> list[Check]:
    """Diagonal, first row, trace and Frobenius norm of every matrix of every case, relative."""
    from golf.interop.upstream import UnsupportedNetwork
    from golf.quant.hessian import collect_hessians

    spec, vectors = read_component(path)
    results: list[Check] = []
    for case_name, case in spec["cases"].items():
        batches = [vectors[f"batch{index}"].long() for index in range(case["batches"])]
        try:
            candidates = networks_of(case)
        except UnsupportedNetwork as reason:
            results.append(unsupported(path.stem, case_name, "hessians", str(reason)))
            continue
        tried = [
            compare_hessians(path.stem, case_name, case, collect_hessians(net, batches), vectors) for net in candidates
        ]
        results += min(tried, key=lambda checks: max(check.error or 0.0 for check in checks))
    return results


def networks_of(case: Mapping[str, Any]) -> list[Any]:
    """The network of a case; two where the file does not say whether its smear gate is masked at document starts."""
    from golf.interop.conform_weights import generate_weights
    from golf.interop.upstream import build_upstream_model

    weights = dict(generate_weights(case["weight_seed"], case["tensors"]))
    if not case["model"].get("smear_gate_enabled") or case.get("structure"):
        return [build_upstream_model(weights, case["model"], case.get("structure"))]
    structures = [{"smear": {"bos_mask": masked}} for masked in (True, False)]
    return [build_upstream_model(weights, case["model"], structure) for structure in structures]


def compare_hessians(
    vector: str, case_name: str, case: Mapping[str, Any], ours: Vectors, vectors: Vectors
) -> list[Check]:
    """One line per matrix: the worst of what is given of it."""
    results = []
    for name, expected in case["hessians"].items():
        if name not in ours:
            results.append(measured(vector, f"{case_name}.{name}", "hessian", float("inf"), HESSIAN_RELATIVE, "none"))
            continue
        hessian = ours[name].double()
        errors = {
            "trace": relative_difference(float(hessian.diagonal().sum()), expected["trace"]),
            "fro": relative_difference(float(hessian.norm()), expected["fro"]),
        }
        for quantity, values in (("diag", hessian.diagonal()), ("row0", hessian[0])):
            given = vectors.get(f"{case_name}.{name}.{quantity}")
            if given is not None:
                errors[quantity] = float((values - given.double()).norm() / given.double().norm())
        worst = max(errors, key=lambda quantity: errors[quantity])
        results.append(
            measured(
                vector, f"{case_name}.{name}", "hessian_relative", errors[worst], HESSIAN_RELATIVE, f"worst: {worst}"
            )
        )
    return results


def read_component(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A component file and the tensors beside it."""
    from safetensors.torch import load_file

    return json.loads(path.read_text(encoding="utf-8")), load_file(str(path.with_suffix(".safetensors")))
