"""Muon and Adam against torch's own; the composite optimizer: closure, rates, routing, state, bfloat16 tables."""

import copy

import pytest
import torch
from torch import nn

from golf.errors import UserError
from golf.optim.adam import AdamRule
from golf.optim.composite import Composite
from golf.optim.groups import ParameterGroup, route_parameters
from golf.optim.muon import MuonRule, orthogonalise
from golf.optim.muon_adam import muon_adam

SHAPES = [(16, 16), (8, 24), (24, 8), (16, 16)]


def matrices(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def give_gradients(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


def one_group(params, rule, lr, **options):
    defaults = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    group = {**defaults, **options, "params": params, "rule": "it", "base_lr": lr, "step": 0}
    return Composite([group], {"it": rule})


# -- Muon -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_follows_torch_muon(weight_decay):
    """torch's buffer is (1 - mu) times ours, which the normalisation removes; both iterate in bfloat16."""
    mine, theirs = matrices(), matrices()
    ours = one_group(mine, MuonRule(), 0.02, weight_decay=weight_decay)
    oracle = torch.optim.Muon(theirs, lr=0.02, weight_decay=weight_decay, momentum=0.95, nesterov=True)
    for step in range(4):
        give_gradients(mine, step)
        give_gradients(theirs, step)
        ours.step()
        oracle.step()
    for a, b, start in zip(mine, theirs, matrices()):
        assert (a - b).norm() < 0.03 * (b - start).norm()


@pytest.mark.parametrize("shape", [(12, 12), (8, 20), (20, 8), (3, 8, 20), (3, 20, 8)])
def test_orthogonalise_pulls_singular_values_to_one(shape):
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(update, dtype=torch.float32)
    assert found.shape == update.shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_batch_is_its_matrices_one_by_one():
    batch = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    singles = torch.stack([orthogonalise(matrix, dtype=torch.float32) for matrix in batch])
    torch.testing.assert_close(orthogonalise(batch, dtype=torch.float32), singles, atol=1e-5, rtol=1e-5)


def test_a_zero_gradient_gives_a_zero_update():
    assert orthogonalise(torch.zeros(4, 8)).eq(0).all()


def test_muon_step_is_the_formula():
    params = matrices()
    start = [p.detach().clone() for p in params]
    ours = one_group(params, MuonRule(newton_schulz_dtype="float32"), 0.1)
    ours.set_rates(0.5, momentum=0.8)
    give_gradients(params, 0)
    ours.step()
    for p, before in zip(params, start):
        direction = orthogonalise(p.grad + 0.8 * p.grad, dtype=torch.float32)
        expected = before - 0.05 * max(1.0, p.shape[0] / p.shape[1]) ** 0.5 * direction
        torch.testing.assert_close(p.detach(), expected, atol=1e-6, rtol=1e-5)


# -- Adam -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_follows_torch_adam(weight_decay):
    mine, theirs = matrices(), matrices()
    ours = one_group(mine, AdamRule(), 0.01, weight_decay=weight_decay)
    oracle = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=weight_decay)
    for step in range(5):
        give_gradients(mine, step)
        give_gradients(theirs, step)
        ours.step()
        oracle.step()
        for a, b in zip(mine, theirs):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_a_bfloat16_table_keeps_bfloat16_moments_and_float32_arithmetic():
    table = nn.Parameter(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).bfloat16())
    weight = nn.Parameter(table.detach().float())
    ours = one_group([table, nn.Parameter(torch.ones(3))], AdamRule(), 0.05)
    oracle = torch.optim.Adam([weight], lr=0.05, betas=(0.9, 0.95))
    give_gradients(ours.param_groups[0]["params"], 0)
    weight.grad = table.grad.float()
    ours.step()
    oracle.step()
    assert ours.state[table]["exp_avg"].dtype == ours.state[table]["exp_avg_sq"].dtype == torch.bfloat16
    assert torch.equal(table.detach(), weight.detach().bfloat16())


# -- composite --------------------------------------------------------------------------------------------------------
class Toy(nn.Module):
    roles = {"table": "embedding", "matrix": "matrix", "gain": "scalar"}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(6, 4, generator=generator))
        self.matrix = nn.Parameter(torch.randn(4, 4, generator=generator))
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self):
        return ((self.table @ self.matrix) * self.gain).square().mean()


def test_groups_and_rates():
    optimizer = muon_adam(Toy(), matrix_lr=0.02, embedding_lr=0.3, scalar_lr=0.04)
    assert {g["group"]: g["rule"] for g in optimizer.param_groups} == {
        "embedding": "adam",
        "matrix": "muon",
        "scalar": "adam",
    }
    optimizer.set_rates(0.5, momentum=0.9)
    assert [g["lr"].item() for g in optimizer.param_groups] == pytest.approx([0.15, 0.01, 0.02])
    assert [g["momentum"].item() for g in optimizer.param_groups] == pytest.approx([0.9] * 3)
    optimizer.set_rates(1.0)
    assert optimizer.param_groups[1]["momentum"].item() == pytest.approx(0.9)


def test_the_closure_is_run_with_gradients_and_its_loss_returned():
    model = Toy()
    optimizer = muon_adam(model)

    def closure():
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        return loss

    before = model.matrix.detach().clone()
    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.requires_grad
    assert not torch.equal(before, model.matrix)


def test_training_reduces_the_loss_and_resumes_bit_for_bit():
    model, twin = Toy(), Toy()
    optimizer = muon_adam(model)

    def steps(net, optim, count):
        losses = []
        for _ in range(count):
            losses.append(net())
            losses[-1].backward()
            optim.step()
            optim.zero_grad(set_to_none=True)
        return [loss.item() for loss in losses]

    losses = steps(model, optimizer, 3)
    twin.load_state_dict(model.state_dict())
    second = muon_adam(twin)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert steps(model, optimizer, 3) == steps(twin, second, 3)
    assert losses[-1] < losses[0]


def test_parameters_without_a_gradient_stay():
    model = Toy()
    optimizer = muon_adam(model)
    model.matrix.square().sum().backward()
    table = model.table.detach().clone()
    optimizer.step()
    assert torch.equal(table, model.table)


def test_clipping_scales_all_gradients_together():
    model = Toy()
    optimizer = muon_adam(model, clip_norm=1e-3)
    (1e3 * model()).backward()
    optimizer.step()
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert total.item() == pytest.approx(1e-3, rel=1e-3)


def test_an_unrouted_parameter_is_an_error():
    groups = [ParameterGroup("matrix", rule="muon", lr=0.1, roles=("matrix",))]
    with pytest.raises(UserError, match="no optimizer group takes parameter 'table'"):
        route_parameters(Toy(), groups)


def test_a_pattern_goes_before_roles_and_must_match():
    rest = ParameterGroup("rest", rule="adam", lr=0.1, roles=("matrix", "embedding", "scalar"))
    routed = route_parameters(Toy(), [rest, ParameterGroup("gains", rule="adam", lr=0.2, roles=(), pattern="gain")])
    assert {g["group"]: g["names"] for g in routed} == {"rest": ["table", "matrix"], "gains": ["gain"]}
    with pytest.raises(UserError, match="pattern 'gian' matches no parameter"):
        route_parameters(Toy(), [rest, ParameterGroup("gains", rule="adam", lr=0.2, roles=(), pattern="gian")])
