"""GPTQ against a column-by-column oracle in float64, its scale rules, and what it does with useless Hessians."""

from dataclasses import replace

import pytest
import torch

import golf.quant.gptq as gptq_module
from golf.errors import UserError
from golf.quant.clip import ClipSearch
from golf.quant.formats import deviation_rows
from golf.quant.gptq import Gptq, factor_hessian
from golf.quant.gptq_search import GptqSearch
from golf.quant.gradual_pruning import zero_smallest
from golf.quant.plan import QuantPlan
from golf.quant.prune import MagnitudePruning
from golf.quant.rtn import quantise_rows


def problem(rows=24, columns=40, seed=0, samples=200):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    x = torch.randn(samples, columns, generator=generator) @ mixing
    return 0.1 * torch.randn(rows, columns, generator=generator), x.T @ x


def oracle(weight, hessian, scales, code_max, damping=0.01):
    """The definition, one column after the other, in float64; dead columns last."""
    W, H = weight.double().clone(), hessian.double().clone()
    dead = H.diagonal() == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    H += damping * H.diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    order = torch.argsort(H.diagonal(), descending=True)
    W, H = W[:, order], H[order][:, order]
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    codes = torch.zeros_like(W)
    for j in range(W.shape[1]):
        codes[:, j] = (W[:, j] / scales.double()).round().clamp(-code_max, code_max)
        error = (W[:, j] - codes[:, j] * scales.double()) / U[j, j]
        W[:, j:] -= error[:, None] * U[j, j:]
    return codes[:, torch.argsort(order)]


def weighted_error(weight, stored, hessian):
    error = (weight - stored.dequantise()).double()
    return float((error @ hessian.double() * error).sum())


@pytest.mark.parametrize("block", [1, 7, 128])
@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_codes_are_those_of_the_definition(bits, block):
    weight, hessian = problem()
    hessian[3], hessian[:, 3] = 0.0, 0.0
    stored = Gptq(bits, 8.0, block=block).convert("w", weight, hessian)
    expected = oracle(weight, hessian, stored.scales, 2 ** (bits - 1) - 1)
    assert (stored.codes == expected).double().mean() > 0.998
    assert not stored.codes[:, 3].any()  # no input reaches it
    assert torch.equal(stored.scales, quantise_rows(weight, deviation_rows(bits, 8.0)).scales)


def test_error_of_the_output_is_smaller_than_by_rounding():
    weight, hessian = problem(64, 64, samples=100)
    rounded = quantise_rows(weight, deviation_rows(4, 3.0))
    solved = Gptq(4, 3.0).convert("w", weight, hessian)
    assert weighted_error(weight, solved, hessian) < 0.7 * weighted_error(weight, rounded, hessian)
    unordered = Gptq(4, 3.0, act_order=False).convert("w", weight, hessian)
    assert not torch.equal(unordered.codes, solved.codes)


def test_matrices_of_one_shape_together_are_the_same_as_alone(monkeypatch):
    pairs = [problem(seed=seed) for seed in range(5)]
    alone = [Gptq().convert("w", weight, hessian) for weight, hessian in pairs]
    monkeypatch.setattr(gptq_module, "ROWS_AT_A_TIME_ON_CPU", 72)
    together = Gptq().convert_many(["w"] * 5, [w for w, _ in pairs], [h for _, h in pairs])
    for one, other in zip(alone, together):
        assert (one.codes == other.codes).double().mean() > 0.998
        assert torch.equal(one.scales, other.scales)


def test_weight_of_the_hessian_moves_scales_by_the_formula():
    weight, hessian = problem()
    plain, moved = (Gptq(6, 12.85, lam).convert("w", weight, hessian).scales.float() for lam in (0.0, 0.5))
    damped = hessian.diagonal() + 0.01 * hessian.diagonal().mean()
    importance = (weight.abs() * damped / damped.mean()).mean(dim=1)
    assert torch.allclose(moved, plain * (1 + 0.5 * (importance / importance.mean() - 1)), rtol=2e-3)


@pytest.mark.parametrize("per", ["matrix", "row"])
def test_search_takes_the_least_plain_error(per):
    weight, hessian = problem(16, 96)
    weight[::3] *= 30.0  # rows above the floor of the scale
    stored = GptqSearch(6, per).convert("w", weight, hessian)
    candidates = [GptqSearch(6, per)]
    tried = []
    for fmt in ClipSearch(6).candidates():
        one = GptqSearch(6, per)
        one.search.candidates = lambda fmt=fmt: [fmt]
        tried.append(one.convert("w", weight, hessian))
    errors = torch.stack([(weight - t.dequantise()).square().mean(dim=1) for t in tried])
    mine = (weight - stored.dequantise()).square().mean(dim=1)
    least = errors.amin(dim=0) if per == "row" else errors[errors.mean(dim=1).argmin()]
    assert torch.allclose(mine, least)
    assert candidates[0].notes == []


def test_without_a_hessian_search_is_the_clip_search():
    weight, _ = problem()
    method = GptqSearch(6)
    assert torch.equal(method.convert("w", weight).codes, ClipSearch(6).convert("w", weight).codes)
    assert method.notes == ["w: has no Hessian: rounded to nearest"]


def test_clip_search_per_row_is_never_worse_than_per_matrix():
    weight = torch.randn(12, 300, generator=torch.Generator().manual_seed(1)) ** 3
    errors = [
        (weight - ClipSearch(5, per).convert("w", weight).dequantise()).square().mean(1) for per in ("row", "matrix")
    ]
    assert (errors[0] <= errors[1]).all()
    assert errors[0].sum() < errors[1].sum()
    with pytest.raises(UserError, match="per=matrix"):
        ClipSearch(6, "column")


def test_hessians_that_are_not_positive_definite_are_damped_more_or_given_up():
    weight, hessian = problem()
    shifted = hessian - 0.05 * hessian.diagonal().mean() * torch.eye(len(hessian))  # not definite any more
    method = Gptq()
    method.convert("shifted", weight, shifted)
    assert method.notes == ["shifted: its Hessian needed 10 times the damping"]
    hopeless = torch.ones(40, 40) - 40 * torch.eye(40)
    hopeless.diagonal().fill_(0.5)
    hopeless[0, 1] = hopeless[1, 0] = 1e6
    for bad in (hopeless, torch.full((40, 40), torch.nan), -torch.eye(40)):
        method = Gptq()
        stored = method.convert("bad", weight, bad)
        assert method.notes == ["bad: has a Hessian that is not positive definite: rounded to nearest"]
        assert torch.equal(stored.codes, quantise_rows(weight, method.format).codes)


def test_a_hessian_of_zeros_makes_zeros():
    assert factor_hessian(torch.zeros(4, 4)) is not None
    assert not Gptq().convert("w", torch.ones(2, 4), torch.zeros(4, 4)).codes.any()


def test_early_damping_leaves_no_column_dead():
    weight, hessian = problem()
    hessian[3], hessian[:, 3] = 0.0, 0.0
    assert Gptq(6, 4.0, early_damping=0.01).convert("w", weight, hessian).codes[:, 3].any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Gptq(9), "bits=6"),
        (lambda: Gptq(6, 0.0), "factor=12.85"),
        (lambda: Gptq(damping=0.0), "damping=0.01"),
        (lambda: GptqSearch(per="column"), "per=matrix"),
        (lambda: Gptq().convert("w", torch.ones(2, 4), torch.eye(3)), "calibrate again"),
        (lambda: Gptq().convert("w", torch.ones(2, 4), torch.ones(3, 4)), "calibrate"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_results_are_stored_in_the_dtype_of_the_weight():
    weight, hessian = problem()
    stored = Gptq().convert("w", weight.bfloat16(), hessian)
    assert stored.dequantise().dtype == torch.bfloat16
    assert stored.format == deviation_rows(6, 12.85)
    assert Gptq().payload_bytes((24, 40)) == 24 * 40 + 48


def pruned_problem(share):
    weight, hessian = problem(rows=48, columns=64, seed=5)
    zero_smallest(weight, share)
    return weight, hessian


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("make", [lambda: Gptq(6, 12.85), lambda: GptqSearch(6)])
def test_pruned_weights_stay_zero_and_their_error_is_made_up_for(make, share):
    """Sparsity before = after; better than rounding with the zeros, better than solving first and zeroing then."""
    weight, hessian = pruned_problem(share)
    pruned = weight == 0
    stored = make().convert("w", weight, hessian)
    assert torch.equal(stored.codes == 0, (stored.codes == 0) | pruned)
    filled = weight + 1e-12 * pruned  # no zeros: the solver takes these weights for its own
    free = make().convert("w", filled, hessian)
    assert int((free.codes[pruned] != 0).sum()) > 0.02 * int(pruned.sum())
    zeroed = replace(free, codes=free.codes.masked_fill(pruned, 0))
    rounded = make().round_to_nearest(weight)
    own = weighted_error(weight, stored, hessian)
    assert own < weighted_error(weight, zeroed, hessian)
    assert own < 0.9 * weighted_error(weight, rounded, hessian)


def test_a_pruned_plan_keeps_its_zeros_through_gptq():
    weight, hessian = problem(rows=48, columns=64, seed=5)
    plan = QuantPlan(matrix=Gptq(6, 12.85), small_numel=0, prune=MagnitudePruning(0.3, above=0))
    stored = plan.quantise({"w": weight}, {"w": "matrix"}, {"w": hessian}).tensors["w"].dequantise()
    smallest = weight.abs() < weight.abs().flatten().kthvalue(int(0.3 * weight.numel())).values
    assert int(smallest.sum()) > 900
    assert (stored[smallest] == 0).all()
