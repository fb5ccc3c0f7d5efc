"""Muon's options by their formulas: coefficients, row normalisation, decay placement, momentum dtype, stacks."""

import pytest
import torch
from torch import nn

from golf.errors import UserError
from golf.optim.composite import Composite
from golf.optim.groups import ParameterGroup, route_parameters
from golf.optim.muon import (
    CLASSIC_COEFFICIENTS,
    POLAR_EXPRESS_COEFFICIENTS,
    MuonRule,
    newton_schulz_coefficients_of,
    normalise_rows,
    orthogonalise,
)
from golf.optim.muon_adam import muon_adam


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def optimiser(params, weight_decay=0.0, lr=0.1, **options):
    rule = MuonRule(**{"newton_schulz_dtype": "float32", **options})
    return Composite([{"params": params, "rule": "it", "base_lr": lr, "weight_decay": weight_decay}], {"it": rule})


def test_a_compiled_iteration_is_the_same(monkeypatch):
    """Two shapes, two steps; traced and run as traced (generating code is the compiler's own affair)."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **given: compile_(f, backend="aot_eager", fullgraph=True, **given))
    weights = []
    for compiled in (False, True):
        params = [nn.Parameter(random(4, 6)), nn.Parameter(random(8, 4, seed=1)), nn.Parameter(random(4, 6, seed=2))]
        it = optimiser(params, compiled=compiled, row_normalise="row", newton_schulz_coefficients="polar_express")
        for step in range(2):
            for i, p in enumerate(params):
                p.grad = random(*p.shape, seed=10 * step + i)
            it.step()
        weights.append([p.detach() for p in params])
    for eager, traced in zip(*weights):
        torch.testing.assert_close(traced, eager, atol=1e-6, rtol=1e-6)


def iterate(X, triples):
    """The iteration in the order of its definition, on one matrix, in float64."""
    X = X.double() / (X.double().norm() + 1e-7)
    flipped = X.shape[0] > X.shape[1]
    X = X.T if flipped else X
    for a, b, c in triples:
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return (X.T if flipped else X).float()


# -- coefficients -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
@pytest.mark.parametrize("steps", [1, 3, 5, 7])
def test_coefficients_change_per_iteration_and_the_last_one_repeats(shape, steps):
    triples = [POLAR_EXPRESS_COEFFICIENTS[min(i, 4)] for i in range(steps)]
    found = orthogonalise(random(*shape), steps, torch.float32, POLAR_EXPRESS_COEFFICIENTS)
    torch.testing.assert_close(found, iterate(random(*shape), triples), atol=2e-5, rtol=2e-5)


def test_five_polar_express_iterations_are_nearer_to_orthogonal_than_classic_ones():
    update = random(24, 40)

    def spread(coefficients):
        values = torch.linalg.svdvals(orthogonalise(update, 5, torch.float32, coefficients))
        return (values - values.mean()).abs().max() / values.mean()

    assert spread(POLAR_EXPRESS_COEFFICIENTS) < 0.7 * spread(CLASSIC_COEFFICIENTS)


def test_both_associations_agree_in_float32_and_differ_in_bfloat16():
    update = random(32, 48)
    exact = [orthogonalise(update, dtype=torch.float32, square_first=choice) for choice in (False, True)]
    torch.testing.assert_close(exact[0], exact[1], atol=1e-5, rtol=1e-5)
    rounded = [orthogonalise(update, square_first=choice) for choice in (False, True)]
    assert not torch.equal(*rounded)
    assert torch.equal(orthogonalise(update), rounded[0])
    polar = orthogonalise(update, coefficients=POLAR_EXPRESS_COEFFICIENTS)
    assert torch.equal(polar, orthogonalise(update, coefficients=POLAR_EXPRESS_COEFFICIENTS, square_first=True))


def test_coefficients_by_name_or_as_a_list():
    assert newton_schulz_coefficients_of("classic") == CLASSIC_COEFFICIENTS
    assert newton_schulz_coefficients_of([[3, -4, 2]]) == ((3.0, -4.0, 2.0),)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"newton_schulz_coefficients": "polar"}, "allowed are classic, polar_express or a list"),
        ({"newton_schulz_coefficients": [3.4, -4.8, 2.0]}, r"a list holds \[a, b, c\] per iteration"),
        ({"row_normalise": "col"}, "row_normalise=col: allowed are none, row, rms"),
        ({"weight_decay_placement": "never"}, "allowed are before, after"),
        ({"momentum_dtype": "fp8"}, "allowed are float32, bfloat16"),
    ],
)
def test_an_unknown_option_is_one_line(options, words):
    with pytest.raises(UserError, match=words) as raised:
        MuonRule(**options)
    assert "\n" not in str(raised.value)


# -- rows, decay, momentum --------------------------------------------------------------------------------------------
def test_rows_are_brought_to_one_length_and_zero_rows_stay_zero():
    update = random(3, 6, 10)
    update[0, 2] = 0.0
    norms = normalise_rows(update, "row").norm(dim=-1)
    assert norms[0, 2] == 0.0
    torch.testing.assert_close(norms[1:], torch.ones(2, 6))
    rms = normalise_rows(update, "rms").square().mean(dim=-1).sqrt()
    torch.testing.assert_close(rms[1:], torch.ones(2, 6))
    assert torch.equal(normalise_rows(update, "none"), update)


@pytest.mark.parametrize("row_normalise", ["none", "row", "rms"])
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_are_the_formula(row_normalise, placement, nesterov):
    W = nn.Parameter(random(12, 6))
    ours = optimiser(
        [W], weight_decay=0.5, row_normalise=row_normalise, weight_decay_placement=placement, nesterov=nesterov
    )
    expected, momentum = W.detach().clone(), torch.zeros(12, 6)
    for step, mu in enumerate((0.8, 0.9)):
        W.grad = random(12, 6, seed=step + 1)
        ours.set_rates(0.5, mu)
        ours.step()
        momentum = mu * momentum + W.grad
        u = W.grad + mu * momentum if nesterov else momentum
        if row_normalise != "none":
            u = u / u.norm(dim=-1, keepdim=True)
        change = 0.05 * 2**0.5 * orthogonalise(u, dtype=torch.float32)
        shrink = 1 - 0.05 * 0.5
        expected = expected * shrink - change if placement == "before" else (expected - change) * shrink
    torch.testing.assert_close(W.detach(), expected, atol=2e-6, rtol=1e-5)


def test_the_taper_reaches_matrices_only():
    def moved(multiplier):
        W, gain = nn.Parameter(torch.eye(4)), nn.Parameter(torch.ones(4))
        model = nn.Module()
        model.W, model.gain = W, gain
        type(model).roles = {"W": "matrix", "gain": "scalar"}
        try:
            both = muon_adam(model, matrix_lr=0.1, matrix_weight_decay=1.0, scalar_lr=0.1, scalar_weight_decay=1.0)
        finally:
            del type(model).roles
        W.grad, gain.grad = torch.zeros(4, 4), torch.zeros(4)
        both.set_rates(1.0, None, multiplier)
        both.step()
        return W[0, 0].item(), gain[0].item()

    assert moved(None) == pytest.approx((0.9, 0.9))
    assert moved(0.5) == pytest.approx((0.95, 0.9))


@pytest.mark.parametrize("row_normalise", ["none", "row"])
def test_a_stack_is_its_matrices(row_normalise):
    stack, singles = nn.Parameter(random(3, 8, 6)), [nn.Parameter(random(3, 8, 6)[i].clone()) for i in range(3)]
    options = {"weight_decay": 0.1, "row_normalise": row_normalise}
    one, three = optimiser([stack], **options), optimiser(singles, **options)
    for step in range(3):
        stack.grad = random(3, 8, 6, seed=step)
        for i, single in enumerate(singles):
            single.grad = stack.grad[i].clone()
        one.step()
        three.step()
    assert torch.equal(stack.detach(), torch.stack([single.detach() for single in singles]))


def test_bfloat16_momentum_rounds_gradients_and_momentum():
    W = nn.Parameter(random(8, 8))
    ours = optimiser([W], momentum_dtype="bfloat16")
    momentum = torch.zeros(8, 8)
    for step in range(3):
        W.grad = random(8, 8, seed=step)
        ours.set_rates(1.0, 0.5)
        ours.step()
        momentum = ((0.5 * momentum).bfloat16() + W.grad.bfloat16()).float()
    buffer = ours.state[W]["momentum_buffer"]
    assert buffer.dtype == torch.bfloat16
    assert torch.equal(buffer.float(), momentum)


# -- groups -----------------------------------------------------------------------------------------------------------
class Roles(nn.Module):
    roles = {name: name for name in ("matrix", "embedding", "head", "scalar", "table", "gate")}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        for name in self.roles:
            setattr(self, name, nn.Parameter(torch.ones(4, 4)))


def rates(optimizer, key="base_lr"):
    return {name: group[key] for group in optimizer.param_groups for name in group["names"]}


def test_every_role_has_its_own_rate_and_decay():
    own = muon_adam(Roles(), 0.1, 0.2, 0.3, 0.4, table_lr=0.5, gate_lr=0.6)
    expected = {"matrix": 0.1, "embedding": 0.2, "head": 0.3, "scalar": 0.4, "table": 0.5, "gate": 0.6}
    assert rates(own) == expected
    decays = {f"{name}_weight_decay": value for name, value in expected.items()}
    assert rates(muon_adam(Roles(), **decays), "weight_decay") == expected


def test_tables_and_gates_follow_and_share_a_group_unless_told_otherwise():
    merged = muon_adam(Roles(), embedding_lr=0.2, scalar_lr=0.4, embedding_weight_decay=0.7, scalar_weight_decay=0.8)
    assert {g["group"]: g["names"] for g in merged.param_groups} == {
        "embedding": ["embedding", "table"],
        "head": ["head"],
        "matrix": ["matrix"],
        "scalar": ["scalar", "gate"],
    }
    assert rates(merged, "weight_decay") == {
        **{"embedding": 0.7, "table": 0.7, "head": 0.7},
        **{"matrix": 0.0, "scalar": 0.8, "gate": 0.8},
    }


def test_a_pattern_moves_parameters_into_a_group_that_also_has_roles():
    moved = muon_adam(Roles(), scalar_lr=0.4, scalar_pattern="^matrix$|^table$")
    assert rates(moved)["matrix"] == rates(moved)["table"] == rates(moved)["scalar"] == 0.4
    assert "matrix" not in {group["group"] for group in moved.param_groups}
    with pytest.raises(UserError, match="pattern 'matrx' matches no parameter"):
        muon_adam(Roles(), scalar_pattern="matrx")
    with pytest.raises(UserError, match="no optimizer group takes parameter 'gate'"):
        route_parameters(
            Roles(), [ParameterGroup("most", "adam", 0.1, ("matrix", "embedding", "head", "scalar", "table"))]
        )


def test_an_unknown_clip_is_one_line():
    with pytest.raises(UserError, match=r"optim.clip=norm: allowed are global, local; type optim.clip=global"):
        muon_adam(Roles(), clip="norm")
