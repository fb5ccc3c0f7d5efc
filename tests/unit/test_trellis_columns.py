"""Trellis codes down the columns: fewer bits than GPTQ and block-LDLQ at equal weighted error, and exact reading."""

import math

import pytest
import torch

from golf.codec.artifact import artifact_bytes
from golf.codec.catalogue import codec_named
from golf.errors import UserError
from golf.quant.gptq import Gptq
from golf.quant.gradual_pruning import zero_smallest
from golf.quant.plan import QuantPlan
from golf.quant.state import QuantisedState
from golf.quant.trellis import TrellisQuantiser, trellis_values
from golf.quant.trellis_columns import TrellisColumns
from golf.quant.trellis_ldlq import TrellisLdlq


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated_hessian(columns, seed=1):
    inputs = gaussian(4 * columns, columns, seed=seed) * torch.logspace(0, -1, columns)
    inputs = inputs @ gaussian(columns, columns, seed=seed + 1) / columns**0.5 + 0.1 * gaussian(4 * columns, columns)
    return inputs.T @ inputs


def weighted_error(weight, stored, hessian):
    error = (stored.dequantise() - weight).double()
    return float(((error @ hessian.double()) * error).sum())


def file_bits(stored):
    """Bits of a weight in a file of the range coder."""
    blob, _ = artifact_bytes(QuantisedState({"w": stored}, {"w": "attention"}), {}, {}, codec_named("range"))
    return 8 * len(blob) / stored.codes.numel()


def test_less_weighted_error_at_fewer_bits_than_gptq_and_than_walks_along_the_rows():
    weight, hessian = gaussian(256, 192), correlated_hessian(192)
    found = TrellisColumns(32).convert("w", weight, hessian)
    error, bits = weighted_error(weight, found, hessian), file_bits(found)
    for other in (Gptq(6), TrellisLdlq(32)):
        stored = other.convert("w", weight, hessian)
        gain = 0.5 * math.log2(weighted_error(weight, stored, hessian) / error) + file_bits(stored) - bits
        assert gain > 0.14, type(other).__name__  # bits per weight at equal error


def test_with_an_identity_hessian_each_walk_is_the_plain_search_of_its_column():
    weight = gaussian(71, 40, seed=3)
    search = TrellisColumns(16, rate_weight=0.0, walk_rows=32)
    found = search.convert("w", weight, 5.0 * torch.eye(40))
    assert found.walk_rows == 24
    x_RC = weight / search.row_scales(weight)[:, None]
    bits = torch.zeros(509)
    for first in (0, 24, 48):
        expected_CL = search.search.rows(x_RC[first : first + 24].t().contiguous(), bits)
        values = trellis_values(found.codes, 16, found.trellis, found.walk_rows)[first : first + 24]
        assert torch.equal(values.t(), expected_CL)


def test_reading_a_walk_down_the_columns_is_reading_it_along_the_rows_of_the_transpose():
    codes = torch.randint(-9, 9, (96, 20), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    down = trellis_values(codes, 64, "least_error", 32)
    for first in (0, 32, 64):
        along = trellis_values(codes[first : first + 32].t().contiguous(), 64, "least_error")
        assert torch.equal(down[first : first + 32].t(), along)
    stack = trellis_values(torch.stack([codes, codes.flip(0)]), 64, "least_error", 32)
    assert torch.equal(stack[0], down)


def test_matrices_together_are_matrices_alone_and_keep_their_own_hessians():
    weights = [gaussian(40, 48, seed=seed) for seed in range(3)]
    hessians = [correlated_hessian(48, seed) for seed in range(3)]
    quantise = TrellisColumns(4, rate_weight=0.0, walk_rows=16)  # no rates, which all matrices of a call share
    alone = [quantise.convert("w", weight, hessian) for weight, hessian in zip(weights, hessians)]
    together = quantise.convert_many(["a", "b", "c"], weights, hessians)
    assert all(torch.equal(left.codes, right.codes) for left, right in zip(alone, together))
    assert not quantise.notes


def test_walks_are_shorter_where_matrices_are_wide():
    quantise = TrellisColumns()
    assert [quantise.length(512, columns) for columns in (512, 1024, 2048, 1 << 20)] == [128, 128, 64, 8]
    assert quantise.length(100, 64) == 100


def test_a_plan_with_it_asks_for_hessians_and_mixes_those_with_and_without():
    plan = QuantPlan(matrix=TrellisColumns(4), small_numel=100)
    assert plan.needs_calibration()
    weights = {"a": gaussian(20, 32), "b": gaussian(20, 32, seed=1)}
    quantised = plan.quantise(weights, dict.fromkeys(weights, "matrix"), {"b": correlated_hessian(32)})
    assert quantised.notes == ("a: has no Hessian: trellis without error feedback",)
    assert torch.equal(quantised.tensors["a"].codes, TrellisQuantiser(4).convert("a", weights["a"]).codes)
    assert quantised.tensors["b"].walk_rows == 20


def test_pruned_weights_and_columns_that_no_input_reached_are_zero():
    weight, hessian = gaussian(48, 96, seed=6), correlated_hessian(96)
    zero_smallest(weight, 0.5)
    hessian[:, 7] = hessian[7] = 0.0
    back = TrellisColumns(8, walk_rows=16).convert("w", weight, hessian).dequantise()
    assert bool((back[weight == 0] == 0).all())
    assert bool((back[:, 7] == 0).all())


def test_wrong_arguments_say_what_to_type():
    with pytest.raises(UserError, match=r"walk_rows=4 is too short for a trellis: type walk_rows=128"):
        TrellisColumns(32, walk_rows=4)
    with pytest.raises(UserError, match=r"damping=0 must be positive: type damping=0\.01"):
        TrellisColumns(32, damping=0)
