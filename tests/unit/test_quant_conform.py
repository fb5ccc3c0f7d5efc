"""`golf conform` on GPTQ files made here from the formulas: what is right passes, what is wrong does not."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from test_quant_gptq import oracle, problem

from golf.interop.conform import run_conformance
from golf.quant.formats import deviation_rows, int8_gate_rows
from golf.quant.rtn import quantise_rows


def gptq_file(folder, spoil=0):
    weight, hessian = problem()
    scales = quantise_rows(weight, deviation_rows(6, 12.85)).scales
    codes = oracle(weight, hessian, scales, 31)
    error = (weight - codes * scales.double()[:, None]).double()
    codes[0, :spoil] += 1
    case = {"key": "x.some_20300101", "clip_sigmas": 12.85, "clip_range": 31}
    case["h_error"] = float((error @ hessian.double() * error).sum())
    tensors = {
        "x.W": weight,
        "x.H": hessian,
        "x.some_20300101.q": codes.to(torch.int8),
        "x.some_20300101.scale": scales,
    }
    save_file(tensors, folder / "any.safetensors")
    (folder / "any.json").write_text(
        json.dumps({"cases": [case, {**case, "key": "x.other", "clip_sigmas": 12.85}][:1]})
    )
    return folder / "any.json"


@pytest.mark.parametrize(("spoil", "status"), [(0, {"pass"}), (30, {"pass", "fail"})])
def test_a_gptq_file(spoil, status, tmp_path):
    checks = run_conformance([gptq_file(tmp_path, spoil)])
    assert len(checks) == 3
    assert {check.status for check in checks} == status


def test_an_unknown_quantiser_is_unsupported(tmp_path):
    path = gptq_file(tmp_path)
    case = {"key": "x.magic", "clip_range": 31, "h_error": 1.0}
    path.write_text(json.dumps({"cases": [case]}))
    assert [check.status for check in run_conformance([path])] == ["unsupported"]


def test_a_mixed_state(tmp_path):
    weight, hessian = problem(264, 256, samples=400)
    gate = weight[:4, :12].contiguous()
    name, gate_name = "blocks.0.attn.c_q.weight", "blocks.0.attn.attn_gate_w"
    scales = quantise_rows(weight, deviation_rows(6, 13.0)).scales
    codes, stored = oracle(weight, hessian, scales, 31), quantise_rows(gate, int8_gate_rows())
    decoded = {name: codes * scales.double()[:, None], gate_name: stored.dequantise().double()}
    save_file(
        {
            f"W.{name}": weight,
            f"H.{name}": hessian,
            f"W.{gate_name}": gate,
            f"out.{name}.q": codes.to(torch.int8),
            f"out.{name}.scale": scales,
            f"out.{gate_name}.gq": stored.codes,
            f"out.{gate_name}.gs": stored.scales,
        },
        tmp_path / "any.safetensors",
    )
    settings = {"gated_attn_quant_gate": True, "lqer_enabled": False, "matrix_bits": 6, "embed_bits": 7}
    settings |= {"matrix_clip_sigmas": 12.85, "attn_clip_sigmas": 13.0, "embed_clip_sigmas": 14.0}
    meta = {name: "gptq (int6)", gate_name: "gate_int8_row"}
    norms = {key: {"l2": float(value.norm())} for key, value in decoded.items()}
    spec = {"settings": settings, "meta": meta, "reconstruction": norms}
    (tmp_path / "any.json").write_text(json.dumps(spec))
    checks = run_conformance([tmp_path / "any.json"])
    assert len(checks) == 8
    assert {check.status for check in checks} == {"pass"}


def test_factors_in_groups_of_another_size(tmp_path):
    """Scales of 32 elements, and factors whose scales are by row, each told by the number of scales."""
    generator = torch.Generator().manual_seed(2)
    left, right = torch.randn(12, 2, generator=generator), torch.randn(2, 48, generator=generator)
    tensors = {"x.A": left, "x.B": right}
    for name, groups in (("x", 3), ("x.rows", None)):
        for part, factor, count, divisor, low, high in (
            ("A", left, 1 if groups else 12, 1.5 if groups else 7, -2 if groups else -7, 1 if groups else 7),
            ("B", right, groups or 2, 7.5 if groups else 7, -8 if groups else -7, 7),
        ):
            cells = factor.reshape(count, -1)
            scales = (cells.abs().amax(dim=1) / divisor).half()
            codes = (cells / scales.float()[:, None]).round().clamp(low, high).to(torch.int8).reshape(factor.shape)
            tensors |= {f"{name}.q{part}": codes, f"{name}.s{part}": scales}
    gptq_file(tmp_path)
    spec = json.loads((tmp_path / "any.json").read_text())
    from safetensors.torch import load_file

    save_file({**load_file(tmp_path / "any.safetensors"), **tensors}, tmp_path / "any.safetensors")
    (tmp_path / "any.json").write_text(json.dumps(spec))
    checks = [check for check in run_conformance([tmp_path / "any.json"]) if check.quantity[0] in "qs"]
    assert len(checks) == 8 + 1  # four parts of each packing; "scales_differing" of the matrix
    assert {check.status for check in checks} == {"pass"}


@pytest.mark.parametrize(
    ("key", "lowest", "floor"),
    [("int8_absmax_20260320", -128, 1e-12), ("int7_20260320_12L", -64, 1e-12), ("int5_absmax_20260321", -16, 1 / 15)],
)
def test_dated_rows_of_other_widths(key, lowest, floor):
    from golf.interop.conform_quant import format_by_key

    fmt = format_by_key(key)
    assert (fmt.code_min, fmt.scale_floor) == (lowest, floor)
