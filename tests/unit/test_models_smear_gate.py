"""Smear gate: the formula against explicit loops, causality, the first position, and the half-and-half start."""

import torch

from golf.models.roles import roles_of
from golf.models.smear.channel import SmearGate

IDS = torch.zeros(2, 7, dtype=torch.int64)


def gate_and_input() -> tuple[SmearGate, torch.Tensor]:
    torch.manual_seed(0)
    module = SmearGate(width=12)
    torch.nn.init.normal_(module.gate)
    return module, torch.randn(2, 7, 12)


def test_formula_equals_an_explicit_loop():
    module, x_BTD = gate_and_input()
    share = 1 / (1 + torch.exp(-module.gate))
    found = module(x_BTD, IDS)
    for t in range(7):
        previous = x_BTD[:, t - 1] if t else torch.zeros(2, 12)
        torch.testing.assert_close(found[:, t], (1 - share) * x_BTD[:, t] + share * previous)


def test_only_this_position_and_the_one_before_matter():
    module, x_BTD = gate_and_input()
    changed = x_BTD.clone()
    changed[:, 3] += 1.0
    different = (module(x_BTD, IDS) != module(changed, IDS)).any(-1)[0]
    assert different.nonzero().flatten().tolist() == [3, 4]


def test_starts_half_and_half():
    x_BTD = torch.randn(1, 4, 12)
    found = SmearGate(width=12)(x_BTD, IDS[:1, :4])
    torch.testing.assert_close(found[:, 1:], 0.5 * (x_BTD[:, 1:] + x_BTD[:, :-1]))
    torch.testing.assert_close(found[:, 0], 0.5 * x_BTD[:, 0])


def test_dtype_is_kept_and_role_declared():
    module, x_BTD = gate_and_input()
    assert module(x_BTD.bfloat16(), IDS).dtype == torch.bfloat16
    assert roles_of(module) == {"gate": "gate"}
