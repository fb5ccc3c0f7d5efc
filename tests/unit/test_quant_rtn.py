"""Rounding to the grids: against a numpy oracle written from the formulas, and published vectors where at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named, int8_rows
from golf.quant.rtn import QuantisedTensor, quantise_rows, row_quantile

PUBLISHED = {
    "int8_clean_20260317": int8_rows(),
    "int6_absmax_20260320": format_named("int6_rows"),
    "int6_absmax_20260321": format_named("int6_floor_rows"),
    "int5_20260320_10L": format_named("int5_rows"),
    "int6_20260320_10L": format_named("int6_rows"),
    "gate_int8_row_20260427": format_named("int8_gate_rows"),
}


def oracle_int8_row(row: np.ndarray) -> tuple[np.ndarray, np.float16]:
    """Quantile clip by hand: sort, interpolate, divide, round half to even."""
    ordered = np.sort(np.abs(row))
    rank = np.float32(0.9999984) * np.float32(len(row) - 1)
    below = int(np.floor(rank))
    above = min(below + 1, len(row) - 1)
    fraction = np.float32(rank - below)
    # The interpolation that torch uses: from the nearer end.
    gap = ordered[above] - ordered[below]
    clip = ordered[below] + fraction * gap if fraction < 0.5 else ordered[above] - gap * (np.float32(1) - fraction)
    scale = np.maximum(np.float32(clip) / np.float32(127), np.float32(1 / 127))
    codes = np.clip(np.round(np.clip(row, -clip, clip) / scale), -127, 127)
    return codes.astype(np.int8), np.float16(scale)


def test_int8_rows_follow_the_formula():
    generator = np.random.default_rng(0)
    weight = (generator.standard_normal((7, 321)) * np.array([[0.01, 0.1, 1, 2, 5, 30, 300]]).T).astype(np.float32)
    stored = quantise_rows(torch.from_numpy(weight), int8_rows())
    for row, codes, scale in zip(weight, stored.codes.numpy(), stored.scales.numpy()):
        expected_codes, expected_scale = oracle_int8_row(row)
        np.testing.assert_array_equal(codes, expected_codes)
        assert scale == expected_scale
    expected = stored.codes.numpy().astype(np.float32) * stored.scales.numpy().astype(np.float32)[:, None]
    np.testing.assert_array_equal(stored.dequantise().numpy(), expected)


@pytest.mark.parametrize("quantile", [0.9999984, 0.999, 0.5, 1.0])
def test_row_quantile_is_bit_equal_to_torch(quantile):
    generator = torch.Generator().manual_seed(1)
    for rows, columns in [(1, 1), (3, 2), (5, 81), (4, 512), (2, 1777), (3, 4096)]:
        magnitudes_RN = torch.randn(rows, columns, generator=generator).abs()
        assert torch.equal(row_quantile(magnitudes_RN, quantile), torch.quantile(magnitudes_RN, quantile, dim=1))


@pytest.mark.parametrize("fmt", [format_named(name) for name in FORMAT_NAMES if name != "fp8_e4m3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_codes_stay_on_the_grid_and_rows_of_zeros_stay_zero(fmt, dtype):
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(2)).to(dtype)
    weight[3] = 0
    weight[4] = 1e-7
    stored = quantise_rows(weight, fmt)
    assert stored.codes.min() >= fmt.code_min
    assert stored.codes.max() <= fmt.code_max
    back = stored.dequantise()
    assert back.dtype == dtype
    assert back[3].abs().max() == 0
    if fmt.granularity != "row" or fmt.clip != "absmax":
        return
    step = stored.scales.float()[:, None] * (1 if fmt.step == 1 else 1.5 * fmt.step)  # 127 has no multiple nearby
    assert ((back.float() - weight.float()).abs() <= step * 0.51 + weight.float().abs() * 2**-7 + 2e-7).all()


@pytest.mark.parametrize("shape", [(), (1,), (0,), (9,), (0, 5), (5, 0), (2, 3, 4)])
@pytest.mark.parametrize("fmt", [format_named(name) for name in FORMAT_NAMES])
def test_odd_shapes_have_the_declared_bytes(shape, fmt):
    stored = quantise_rows(torch.randn(shape, generator=torch.Generator().manual_seed(3)), fmt)
    assert stored.dequantise().shape == shape
    assert sum(part.numel() * part.itemsize for part in stored.parts().values()) == fmt.payload_bytes(shape)


def test_meta_and_parts_rebuild_the_tensor():
    stored = quantise_rows(torch.randn(4, 6), format_named("int6_floor_rows"))
    again = QuantisedTensor.from_parts(stored.meta(), stored.parts())
    assert again.format == stored.format
    assert torch.equal(again.dequantise(), stored.dequantise())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(bad):
    weight = torch.ones(3, 3)
    weight[1, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        quantise_rows(weight, int8_rows())


def test_scales_that_overflow_are_refused():
    with pytest.raises(UserError, match="overflows"):
        quantise_rows(torch.full((2, 2), 3e38), int8_rows())


def test_integers_are_refused():
    with pytest.raises(UserError, match="int64"):
        quantise_rows(torch.ones(2, 2, dtype=torch.int64), int8_rows())


def test_groups_far_longer_than_rows_are_refused_before_they_take_the_memory():
    fmt = QuantFormat(bits=4, code_min=-8, code_max=7, granularity="group", group_size=2**31)
    stored = QuantisedTensor(torch.zeros(4, 8, dtype=torch.int8), torch.ones(4, 1), fmt, "float32")
    with pytest.raises(UserError, match="type group_size=8"):
        QuantisedTensor.from_parts(stored.meta(), stored.parts())
    with pytest.raises(UserError, match="type group_size=8"):
        quantise_rows(torch.ones(4, 8), fmt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 6, "code_min": -64, "code_max": 63}, "bits=7"),
        ({"bits": 2**32, "code_min": -100, "code_max": 100}, "1 to 8"),
        ({"bits": 6, "code_min": -448, "code_max": 448, "number": "float8_e4m3"}, "type bits=8"),
        ({"bits": 9, "code_min": -200, "code_max": 200}, "signed byte"),
        ({"bits": 8, "code_min": -127, "code_max": 127, "granularity": "column"}, "granularity=row"),
        ({"bits": 8, "code_min": -127, "code_max": 127, "clip_quantile": 1.5}, "0.9999984"),
        ({"bits": 8, "code_min": -127, "code_max": 127, "scale_dtype": "int8"}, "float16"),
    ],
)
def test_impossible_formats_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        QuantFormat(**arguments)


@pytest.mark.skipif("GOLF_CONFORMANCE" not in os.environ, reason="GOLF_CONFORMANCE names no folder of vectors")
@pytest.mark.parametrize("key", PUBLISHED)
def test_published_vectors(key):
    from safetensors.torch import load_file

    tensors = load_file(Path(os.environ["GOLF_CONFORMANCE"]) / "components" / "quant.safetensors")
    cases = [name[3:] for name in tensors if name.startswith("in.") and f"{key}.{name[3:]}.q" in tensors]
    assert cases
    for case in cases:
        stored = quantise_rows(tensors[f"in.{case}"], PUBLISHED[key])
        scales = tensors[f"{key}.{case}.scale"]
        assert torch.equal(stored.codes, tensors[f"{key}.{case}.q"]), case
        assert torch.equal(stored.scales.reshape(scales.shape), scales), case
        assert stored.scales.dtype == scales.dtype, case
