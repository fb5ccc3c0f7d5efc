"""Fake quantisation: bit-equal to the exporter on every format, with the stated gradients, and whole when compiled."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.errors import UserError
from golf.quant.fake_quant import fake_quantise
from golf.quant.floats import NARROW_FLOATS, round_to_float
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named, ternary_groups
from golf.quant.rtn import quantise_rows, to_float32
from golf.quant.training_formats import TRAINING_FORMAT_NAMES, training_format_named

ALL_FORMATS = [*FORMAT_NAMES, *TRAINING_FORMAT_NAMES]
SHAPES = [(7, 300), (1, 1), (3, 128), (2, 5, 130), (40,), ()]


def random_weight(shape: tuple[int, ...], seed: int, spread: float = 1.0) -> torch.Tensor:
    """Rows of very different sizes, an outlier, a row of zeros and a row on exact halves of a step."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * spread
    if weight.ndim >= 2:
        weight *= torch.logspace(-6, 1, weight.shape[-2]).unsqueeze(-1)
        weight[..., -1, :] = torch.arange(weight.shape[-1]) * 0.5 - 3.0
        weight[..., weight.shape[-2] // 2, :] *= 0 if weight.shape[-2] > 2 else 1
    return weight


@pytest.mark.parametrize("name", NARROW_FLOATS)
def test_rounding_in_float32_equals_the_cast(name):
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float8_e4m3": torch.float8_e4m3fn}[name]
    generator = torch.Generator().manual_seed(0)
    exponents = torch.rand(200_000, generator=generator) * 60 - 45
    values = torch.randn(200_000, generator=generator) * torch.exp2(exponents)
    grid = torch.arange(-(2**11), 2**11).float()
    ties = torch.cat([grid * 2.0**-25, grid * 2.0**-10, grid * 2.0**-4, grid * 2.0**-3])
    values = torch.cat([values, ties, torch.tensor([0.0, -0.0, 2.0**-14, 2.0**-6, 2.0**-9, 2.0**-10, 448.0])])
    values = values[values.abs() <= (448 if name == "float8_e4m3" else 65_504)]
    assert torch.equal(round_to_float(values, name), values.to(dtype).float())


def test_rounding_to_float32_equals_the_cast():
    values = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 5000
    assert [to_float32(v) for v in values.tolist()] == values.float().double().tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ALL_FORMATS)
def test_fake_quantisation_is_what_the_exporter_writes(name, shape):
    fmt = training_format_named(name)
    for dtype in (torch.float32, torch.bfloat16):
        weight = random_weight(shape, seed=len(name)).to(dtype)
        exported = quantise_rows(weight, fmt).dequantise()
        trained = fake_quantise(weight.requires_grad_(), fmt)
        assert trained.dtype == weight.dtype
        assert torch.equal(trained, exported)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_format_trains_on_its_export(data):
    """Formats nobody has named: any bits, granularity, clip, floor, step and type of scale."""
    bits = data.draw(st.integers(2, 8))
    code_max = 2 ** (bits - 1) - 1
    clip = data.draw(st.sampled_from(["absmax", "absmean", "deviation", "quantile"]))
    granularity = data.draw(st.sampled_from(["row", "group", "tensor", "none"]))
    fmt = QuantFormat(
        bits=bits,
        code_min=data.draw(st.sampled_from([-code_max, -code_max - 1, 0])),
        code_max=code_max,
        granularity=granularity,
        group_size=data.draw(st.integers(1, 9)) if granularity == "group" else 0,
        clip="absmax" if clip == "quantile" else clip,
        clip_quantile=data.draw(st.floats(0.5, 1.0)) if clip == "quantile" else None,
        clip_factor=data.draw(st.sampled_from([1.0, 2.5])),
        clip_floor=data.draw(st.sampled_from([0.0, 1e-8, 0.1])),
        scale_floor=data.draw(st.sampled_from([0.0, 1e-12, 1 / 31])),
        stored_floor=data.draw(st.sampled_from([0.0, 2.0**-14])),
        scale_dtype=data.draw(st.sampled_from(["float16", "bfloat16", "float32"])),
        tensor_scale_dtype=data.draw(st.sampled_from(["float16", "bfloat16", "float32"])),
        self_consistent=data.draw(st.booleans()),
        keep_mean=data.draw(st.booleans()),
        step=data.draw(st.sampled_from([1, 1, 2, 4])) if code_max > 4 else 1,
    )
    shape = data.draw(st.sampled_from([(3, 17), (1, 4), (2, 3, 10), (6,), (4, 1)]))
    weight = random_weight(shape, data.draw(st.integers(0, 99)))
    stored = quantise_rows(weight, fmt)
    assert torch.equal(fake_quantise(weight, fmt), stored.dequantise())
    assert tuple(stored.scales.shape) == fmt.scale_shape(shape)
    assert sum(part.numel() * part.itemsize for part in stored.parts().values()) == fmt.payload_bytes(shape)
    assert stored.codes.unique().numel() <= fmt.levels


def test_straight_through_and_noise_have_the_gradient_of_the_identity():
    upstream = torch.randn(7, 300)
    for name in ALL_FORMATS:
        for rounding in ("ste", "noise"):
            weight = random_weight((7, 300), 3).requires_grad_()
            fake_quantise(weight, training_format_named(name), rounding).backward(upstream)
            assert torch.equal(weight.grad, upstream), (name, rounding)


def test_noise_stays_within_half_a_step():
    weight, fmt = torch.randn(5, 64), format_named("int6_rows")
    scale = quantise_rows(weight, fmt).scales.float()[:, None]
    offsets = (fake_quantise(weight, fmt, "noise") - weight) / scale
    assert 0.4 < offsets.abs().max() <= 0.5 + 1e-3


def test_soft_rounding_follows_its_formula_and_has_its_own_gradient():
    fmt = training_format_named("training_int6_symmetric_rows")
    alpha = torch.tensor(4.0)
    weight = (torch.randn(6, 40, dtype=torch.float32) * 0.5).requires_grad_()
    scale = (weight.abs().amax(1, keepdim=True) / 31).clamp_min(1 / 31)
    lower = torch.floor(weight / scale)
    expected = (lower + torch.sigmoid(4 * (weight / scale - lower - 0.5))).clamp(-31, 31) * scale
    upstream = torch.randn(6, 40)
    (gradient,) = torch.autograd.grad(expected, weight, upstream)
    soft = fake_quantise(weight, fmt, "soft", alpha)
    soft.backward(upstream)
    assert torch.allclose(soft, expected, atol=1e-6)
    assert torch.allclose(weight.grad, gradient, atol=1e-5)


@pytest.mark.parametrize("name", ["int6_rows", "int6_clipped_rows", "int4_groups", "training_int6_floor_rows"])
def test_very_steep_soft_rounding_is_rounding_to_nearest(name):
    weight, fmt = torch.randn(6, 300), training_format_named(name)
    soft = fake_quantise(weight, fmt, "soft", torch.tensor(1e6))
    step = quantise_rows(weight, fmt).scales.float().max() * fmt.step
    differing = (soft - fake_quantise(weight, fmt)).abs() > 1e-3 * step
    assert differing.float().mean() < 0.02  # ties, and codes at the ends


def test_ternary_weights_survive_being_made_ternary_again():
    """Export divides by mean |code|: scales and codes come back, up to the rounding of the stored scale."""
    weight = torch.randn(12, 300)
    exported = quantise_rows(weight, ternary_groups(128)).dequantise()
    again = quantise_rows(exported, ternary_groups(128, keep_mean=False))
    first = quantise_rows(weight, ternary_groups(128, keep_mean=False))
    assert torch.equal(again.codes, first.codes)
    assert torch.allclose(again.scales.float(), first.scales.float(), rtol=2e-3)


def test_a_compiled_graph_is_whole_and_rounds_scales_too():
    """A compiler that drops the cast to float16 and back would put the weights on a finer grid of scales."""
    formats = [
        format_named(name) for name in ("int8_rows", "int6_floor_rows", "int4_groups", "ternary_128", "fp8_e4m3")
    ]

    def all_formats(weight):
        return [fake_quantise(weight, fmt) for fmt in formats]

    weight = torch.randn(9, 300, requires_grad=True)
    results = torch.compile(all_formats, fullgraph=True, dynamic=False)(weight)
    for fmt, result, expected in zip(formats, results, all_formats(weight)):
        differing = (result - expected).abs() > 1e-5 * expected.abs()
        assert differing.float().mean() <= (0.01 if fmt.clip == "absmean" else 0)  # a mean may be summed in any order
    torch.stack(results).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, len(formats)))


def test_what_cannot_be_is_refused():
    weight = torch.ones(2, 2)
    with pytest.raises(UserError, match=r"type qat\.rounding=ste"):
        fake_quantise(weight, format_named("int8_rows"), "hard")
    with pytest.raises(UserError, match="softness"):
        fake_quantise(weight, format_named("int8_rows"), "soft")
    with pytest.raises(UserError, match="soft rounding needs integer codes"):
        fake_quantise(weight, format_named("fp8_e4m3"), "soft", torch.tensor(1.0))
    with pytest.raises(UserError, match="use one of int8_rows"):
        training_format_named("int9_rows")
    for changes, message in (
        ({"clip": "median"}, "clip=absmax or clip=absmean"),
        ({"number": "posit"}, "number=integer"),
        ({"granularity": "group"}, "group_size=128"),
        ({"clip": "absmean", "clip_quantile": 0.9}, "choose one"),
        ({"scale_codes": 0}, "scale_codes=31"),
        ({"step": 0}, "step=4"),
    ):
        with pytest.raises(UserError, match=message):
            replace(format_named("int6_rows"), **changes)
