"""Corrections and factors: what they gain, that files give them back, and that zeroing codes costs what it says."""

import pytest
import torch

from golf.errors import UserError
from golf.quant.factored import FactoredTensor, LowRankFactors
from golf.quant.formats import absmax_rows, ternary_groups
from golf.quant.lowrank import CorrectedTensor, LowRankCorrection, pack_factors
from golf.quant.mixed import TraceRanked
from golf.quant.plan import QuantPlan
from golf.quant.prune import MagnitudePruning, cheapest_code_count, quantile_of_all, zero_cheapest_codes
from golf.quant.rtn import quantise_rows
from golf.quant.sensitivity import code_entropy, loss_of_single_tensors, sensitivity_table
from golf.quant.state import QuantisedState, same_state


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(32, 2, generator=generator) @ torch.randn(2, 64, generator=generator)
    return {
        name: low * scale + 0.05 * torch.randn(32, 64, generator=generator) for name, scale in zip("abc", (1, 3, 2))
    }


@pytest.mark.parametrize("group", [64, 0, 7])
def test_correction_mends_the_worst_tensors_and_survives_a_file(group, tmp_path):
    state = weights()
    plan = QuantPlan(matrix=absmax_rows(3), small_numel=0, correction=LowRankCorrection(rank=4, top=2, group=group))
    plain = QuantPlan(matrix=absmax_rows(3), small_numel=0).quantise(state, dict.fromkeys(state, "matrix"))
    mended = plan.quantise(state, dict.fromkeys(state, "matrix"))
    assert [name for name in state if isinstance(mended.tensors[name], CorrectedTensor)] == ["b", "c"]
    for name in "bc":
        before, after = ((state[name] - found.tensors[name].dequantise()).norm() for found in (plain, mended))
        assert after < before
    mended.save(tmp_path / "q.golf")
    loaded = QuantisedState.load(tmp_path / "q.golf")
    assert same_state(loaded.dequantise(), mended.dequantise())
    assert loaded.payload_bytes() == mended.payload_bytes()
    assert CorrectedTensor.kind in plan.readers()
    assert CorrectedTensor.kind not in QuantPlan().readers()


def test_corrected_values_are_codes_times_scales_plus_the_product():
    state = {"w": weights()["b"].bfloat16()}
    plan = QuantPlan(matrix=absmax_rows(3), small_numel=0, correction=LowRankCorrection(top=1))
    stored = plan.quantise(state, {"w": "matrix"}).tensors["w"]
    left = stored.left.double() * stored.left_scales.double()
    right = stored.right.double().reshape(-1, 64) * stored.right_scales.double()[:, None]
    expected = stored.base.codes.double() * stored.base.scales.double()[:, None] + left @ right.reshape(4, 64)
    assert stored.left.min() >= -2
    assert stored.left.max() <= 1
    assert torch.allclose(stored.dequantise().double(), expected, rtol=2**-8)
    assert stored.dequantise().dtype == torch.bfloat16
    with pytest.raises(ValueError, match="does not belong"):
        CorrectedTensor.from_parts(stored.meta(), {**stored.parts(), "correction_left": stored.left[:5]})


def test_factors_of_zero_have_a_scale():
    packed = pack_factors(torch.zeros(4, 2), torch.zeros(2, 64))
    assert all(torch.isfinite(part.float()).all() for part in packed)
    assert not packed[0].any()


def test_factored_matrices_are_exact_products_of_small_integers(tmp_path):
    state = weights()
    plan = QuantPlan(matrix=LowRankFactors(2), small_numel=0)
    quantised = plan.quantise(state, dict.fromkeys(state, "matrix"))
    stored = quantised.tensors["b"]
    sums = stored.left.codes.long() @ stored.right.codes.long().T
    scales = stored.left.scales.float()[:, None], stored.right.scales.float()[None]
    assert torch.equal(stored.dequantise(), sums.float() * scales[0] * scales[1])
    assert (state["b"] - stored.dequantise()).norm() < 0.05 * state["b"].norm()
    assert quantised.payload_bytes() == sum(
        line.payload_bytes for line in plan.table(state, dict.fromkeys(state, "matrix"))
    )
    quantised.save(tmp_path / "q.golf")
    assert same_state(QuantisedState.load(tmp_path / "q.golf").dequantise(), quantised.dequantise())
    assert FactoredTensor.kind in plan.readers()
    with pytest.raises(UserError, match="rank up to 32"):
        LowRankFactors(40).convert("w", state["a"])
    with pytest.raises(ValueError, match="do not belong"):
        FactoredTensor.from_parts(
            stored.meta(), {**stored.parts(), "left_codes": stored.left.codes[:, :1].contiguous()}
        )


def test_pruning_zeroes_the_share_that_it_says():
    weight = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    assert quantile_of_all(weight.abs(), 0.03) == torch.quantile(weight.abs(), 0.03)
    pruned = MagnitudePruning(0.03, above=1000).apply("w", weight)
    assert int((pruned == 0).sum()) == 2700
    assert weight[pruned == 0].abs().max() < pruned[pruned != 0].abs().min()
    assert MagnitudePruning(0.03).apply("w", weight[:10]) is not None
    assert not (MagnitudePruning(0.03).apply("w", weight[:10]) == 0).any()  # too small
    plan = QuantPlan(matrix="as_is", small_numel=0, prune=MagnitudePruning(0.5, above=0))
    assert (plan.quantise({"w": weight}, {"w": "matrix"}).dequantise()["w"] == 0).float().mean() == 0.5


@pytest.mark.parametrize("fmt", [absmax_rows(4), absmax_rows(4, 16), ternary_groups(16, keep_mean=False)])
def test_cheapest_codes_go_first(fmt):
    state = weights()
    stored = {name: quantise_rows(weight, fmt) for name, weight in state.items()}
    total = cheapest_code_count(stored)
    pruned = zero_cheapest_codes(stored, total // 3)
    zeroed, kept = [], []
    for name in state:
        gone = (stored[name].codes != 0) & (pruned[name].codes == 0)
        unit = (stored[name].dequantise() - pruned[name].dequantise()).abs()
        zeroed += unit[gone].tolist()
        kept += pruned[name].dequantise()[pruned[name].codes.abs() == 1].abs().tolist()
    assert len(zeroed) == total // 3
    assert max(zeroed) <= min(kept)
    everything = zero_cheapest_codes(stored, 10**9)
    assert cheapest_code_count(everything) == 0
    assert zero_cheapest_codes(stored, 0) == stored


def test_mixed_precision_follows_the_traces():
    state = weights()
    roles = dict.fromkeys(state, "matrix")
    hessians = {"a": torch.eye(64), "b": 2 * torch.eye(64), "c": 3 * torch.eye(64)}
    plan = QuantPlan(matrix=absmax_rows(5), small_numel=0, mixed=TraceRanked("int6_rows", 2, always="^a"))
    assert plan.needs_calibration()

    def bits(calibration):
        return {name: t.format.bits for name, t in plan.quantise(state, roles, calibration).tensors.items()}

    assert bits(hessians) == {"a": 6, "b": 5, "c": 6}
    assert bits({}) == {"a": 6, "b": 6, "c": 5}  # ties keep the order
    assert [line.treatment for line in plan.table(state, roles)] == ["int6_rows", "int6_rows", "int5_rows"]


def test_sensitivity_says_what_rounding_does():
    state = {**weights(), "kept": torch.randn(4)}
    hessians = {"a": torch.eye(64)}
    quantised = QuantPlan(matrix=absmax_rows(3), small="as_is", small_numel=10).quantise(
        state, dict.fromkeys(state, "matrix")
    )
    table = {line.name: line for line in sensitivity_table(state, quantised.tensors, hessians)}
    assert set(table) == set("abc")
    error = state["a"] - quantised.tensors["a"].dequantise()
    assert table["a"].mse == pytest.approx(float(error.square().mean()))
    assert table["a"].hessian_error == pytest.approx(float(error.square().sum()), rel=1e-4)
    assert table["a"].relative_hessian_error == pytest.approx(table["a"].relative_mse, rel=1e-4)
    assert table["b"].hessian_error is None
    assert 0 < table["a"].clipped < 0.2
    assert 1 < table["a"].entropy_bits < 3
    assert code_entropy(torch.tensor([0, 1, 0, 1], dtype=torch.int8)) == 1.0
    assert table["a"].bytes < table["a"].payload_bytes == 32 * 64 + 64
    found = loss_of_single_tensors(
        state, quantised.tensors, lambda s: float((s["a"] - state["a"]).abs().sum()), ["a", "b"]
    )
    assert found["a"] == pytest.approx(float(error.abs().sum()))
    assert found["b"] == 0.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LowRankCorrection(rank=0), "quant.correction.rank=4"),
        (lambda: LowRankCorrection(names="("), "regular expression"),
        (lambda: LowRankFactors(0), "rank=64"),
        (lambda: MagnitudePruning(1.0), "quant.prune.share=0.03"),
        (lambda: MagnitudePruning(names="("), "regular expression"),
        (lambda: TraceRanked("int6_rows", -1), "quant.mixed.keep=32"),
        (lambda: TraceRanked("int6_rows", always="("), "regular expression"),
        (lambda: QuantPlan(mixed=TraceRanked("int66")), "quant.mixed"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
