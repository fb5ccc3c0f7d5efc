"""Block-LDLQ: lower Hessian-weighted error than the plain search, the plain search without a Hessian, and its notes."""

import pytest
import torch

from golf.errors import UserError
from golf.quant.gradual_pruning import zero_smallest
from golf.quant.plan import QuantPlan
from golf.quant.sensitivity import code_entropy
from golf.quant.trellis import TrellisQuantiser
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


def test_error_weighted_by_the_hessian_is_lower_and_not_for_more_bits():
    weight, hessian = gaussian(64, 96), correlated_hessian(96)
    plain = TrellisQuantiser(8).convert("w", weight)
    fed_back = TrellisLdlq(8).convert("w", weight, hessian)
    assert weighted_error(weight, fed_back, hessian) < 0.75 * weighted_error(weight, plain, hessian)
    assert code_entropy(fed_back.codes) <= code_entropy(plain.codes) + 0.03
    without = TrellisLdlq(8, block=96).convert("w", weight, hessian)
    assert weighted_error(weight, fed_back, hessian) < 0.9 * weighted_error(weight, without, hessian)


@pytest.mark.parametrize("states", [4, 32])
def test_with_an_identity_hessian_it_is_the_plain_search(states):
    weight = gaussian(24, 96, seed=3)
    plain = TrellisQuantiser(states).convert("w", weight)
    found = TrellisLdlq(states).convert("w", weight, 7.0 * torch.eye(96))
    assert torch.equal(found.codes, plain.codes)
    assert torch.allclose(found.scales.float(), plain.scales.float(), rtol=2e-3)


def test_matrices_together_are_matrices_alone_and_keep_their_own_hessians(monkeypatch):
    weights = [gaussian(16, 48, seed=seed) for seed in range(3)]
    hessians = [correlated_hessian(48, seed) for seed in range(3)]
    quantise = TrellisLdlq(4, rate_weight=0.0)  # no rates, which all matrices of a call share
    alone = [quantise.convert("w", weight, hessian) for weight, hessian in zip(weights, hessians)]
    for size in (3, 1):
        monkeypatch.setattr(TrellisLdlq, "together", lambda *_, size=size: size)
        together = quantise.convert_many(["a", "b", "c"], weights, hessians)
        assert all(torch.equal(left.codes, right.codes) for left, right in zip(alone, together))
    assert not quantise.notes


def test_bad_hessians_are_noted_or_refused():
    weight, quantise = gaussian(16, 48), TrellisLdlq(8)
    plain = TrellisQuantiser(8).convert("w", weight)
    assert torch.equal(quantise.convert("none", weight).codes, plain.codes)
    assert torch.equal(quantise.convert("bad", weight, torch.full((48, 48), float("nan"))).codes, plain.codes)
    assert quantise.notes == [
        "none: has no Hessian: trellis without error feedback",
        "bad: has a Hessian that is not positive definite: trellis without error feedback",
    ]
    with pytest.raises(UserError, match="for 40 columns, not 48: calibrate again"):
        quantise.convert("w", weight, torch.eye(40))
    with pytest.raises(UserError, match=r"type block=16 revised=48"):
        TrellisLdlq(8, block=0)


def test_a_plan_with_it_asks_for_hessians_and_mixes_those_with_and_without():
    plan = QuantPlan(matrix=TrellisLdlq(4), small_numel=100)
    assert plan.needs_calibration()
    weights = {"a": gaussian(20, 32), "b": gaussian(20, 32, seed=1)}
    quantised = plan.quantise(weights, dict.fromkeys(weights, "matrix"), {"b": correlated_hessian(32)})
    assert quantised.notes == ("a: has no Hessian: trellis without error feedback",)
    assert quantised.tensors["b"].kind == "trellis"


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_pruned_weights_stay_zero(share):
    """In the plain search and with error feedback, which makes up for what they cannot take."""
    weight, hessian = gaussian(48, 96, seed=6), correlated_hessian(96)
    zero_smallest(weight, share)
    plain = TrellisQuantiser(8).convert("w", weight)
    fed_back = TrellisLdlq(8).convert("w", weight, hessian)
    for stored in (plain, fed_back):
        assert (stored.dequantise()[weight == 0] == 0).all()
    assert weighted_error(weight, fed_back, hessian) < weighted_error(weight, plain, hessian)


def test_zeros_at_mostly_zero_rows_cost_less_than_what_they_save():
    """Of a matrix with 80 % zeros: fewer bits and less error than a walk that may leave zero."""
    weight, hessian = gaussian(48, 96, seed=6), correlated_hessian(96)
    zero_smallest(weight, 0.8)
    kept = TrellisLdlq(8, 10.0).convert("w", weight, hessian)
    free = TrellisLdlq(8, 15.0).convert("w", weight + 1e-12 * (weight == 0), hessian)
    assert code_entropy(kept.codes) < code_entropy(free.codes)
    assert weighted_error(weight, kept, hessian) < weighted_error(weight, free, hessian)
