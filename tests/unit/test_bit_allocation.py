"""Mixed precision by sensitivity: bits go where they take away most error, under the average, from calibration."""

from __future__ import annotations

import pytest
import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.errors import UserError
from golf.quant.bit_allocation import BitAllocation, rounding_error
from golf.quant.formats import format_named
from golf.quant.plan import QuantPlan
from golf.quant.state import QuantisedState, same_state

GRIDS = ["int8_absmax_rows", "int5_rows", "int7_rows", "int6_rows"]


def weights():
    generator = torch.Generator().manual_seed(0)
    state = {f"m{n}": torch.randn(32, 64, generator=generator) for n in range(4)}
    return state, dict.fromkeys(state, "matrix")


def bits_of_plan(average, hessians=None, **options):
    state, roles = weights()
    plan = QuantPlan(matrix="int6_rows", small_numel=0, mixed=BitAllocation(GRIDS, average, **options))
    return {name: stored.format.bits for name, stored in plan.quantise(state, roles, hessians).tensors.items()}


@pytest.mark.parametrize("average", [5, 5.5, 6, 6.75, 8])
def test_the_average_is_kept_and_used(average):
    found = bits_of_plan(average)
    assert sum(found.values()) / len(found) == pytest.approx(average, abs=0.25)
    assert sum(found.values()) / len(found) <= average


def test_bits_go_to_large_inputs_and_only_to_candidates():
    hessians = {f"m{n}": torch.eye(64) * 16.0 ** (3 * n) for n in range(4)}
    assert bits_of_plan(6.5, hessians) == {"m0": 5, "m1": 5, "m2": 8, "m3": 8}
    assert bits_of_plan(5.75, hessians, names="m[0-2]") == {"m0": 5, "m1": 5, "m2": 7, "m3": 6}
    assert QuantPlan(mixed=BitAllocation(GRIDS)).needs_calibration()


def test_the_allocation_is_the_best_of_all():
    """Against every allocation of four matrices to four grids."""
    from itertools import product

    state, _ = weights()
    hessians = {name: torch.diag(torch.rand(64) * scale) for name, scale in zip(state, (1, 30, 4, 900))}
    formats = sorted((format_named(name) for name in GRIDS), key=lambda fmt: fmt.bits)
    error = {(n, f.bits): rounding_error(state[n], f, hessians[n]) for n in state for f in formats}
    allowed = [bits for bits in product((5, 6, 7, 8), repeat=4) if sum(bits) <= 26]
    best = min(allowed, key=lambda bits: sum(error[name, b] for name, b in zip(state, bits)))
    assert tuple(bits_of_plan(6.5, hessians).values()) == best


def test_errors_are_those_of_the_formula():
    weight, fmt = torch.randn(8, 16), format_named("int5_rows")
    hessian = torch.diag(torch.arange(16.0)) + 0.5
    wrong = weight - QuantPlan(matrix=fmt, small_numel=0).quantise({"w": weight}, {"w": "matrix"}).dequantise()["w"]
    expected = float((wrong.double().square() * (torch.arange(16.0) + 0.5)).sum())
    assert rounding_error(weight, fmt, hessian) == pytest.approx(expected, rel=1e-6)


def test_table_without_values_has_the_bytes_of_the_average():
    state, roles = weights()
    plan = QuantPlan(matrix="int6_rows", small_numel=0, mixed=BitAllocation(GRIDS, 6.5))
    table = plan.table({name: tensor.to("meta") for name, tensor in state.items()}, roles)
    assert sorted(line.treatment for line in table) == sorted(line.treatment for line in plan.table(state, roles))


def test_the_option_solves_with_gptq_and_survives_a_file(tmp_path):
    state, roles = weights()
    plan = build(compose("train", ["quant=mixed_by_sensitivity", "quant.small_numel=0"])["quant"])
    hessians = {name: torch.eye(64) * scale for name, scale in zip(state, (1, 1, 1, 1e4))}
    quantised = plan.quantise(state, roles, hessians)
    bits = {name: stored.format.bits for name, stored in quantised.tensors.items()}
    assert bits["m3"] == max(bits.values()) > min(bits.values())
    quantised.save(tmp_path / "quantised.golf")
    assert same_state(QuantisedState.load(tmp_path / "quantised.golf").dequantise(), quantised.dequantise())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BitAllocation(GRIDS, 4.5), "quant.mixed.average_bits=4.5"),
        (lambda: BitAllocation([]), "quant.mixed.average_bits"),
        (lambda: BitAllocation(["float16"]), "quant.mixed.grids"),
        (lambda: BitAllocation(GRIDS, names="("), "quant.mixed.names"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said) as error:
        make()
    assert len(str(error.value).splitlines()) == 1
