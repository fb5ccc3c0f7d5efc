"""Operations of linear maps: ternary and float8 weights against their formulas, and where they are put."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from golf.errors import UserError
from golf.models.layers import HeadLinear, Linear, rms_norm
from golf.models.linear.blocks import block_linears, put_operation
from golf.models.linear.fp8 import Fp8Linear, Fp8Linears
from golf.models.linear.ternary import TernaryLinear, TernaryLinears


class TwoBlocks(nn.Module):
    """Two blocks with an inner and an output projection, and a head outside them."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"fc": Linear(32, 64), "proj": Linear(64, 32, zero=True)}) for _ in range(2)
        )
        self.lm_head = HeadLinear(32, 50, zero=True)


def by_hand(weight: torch.Tensor, group: int) -> torch.Tensor:
    rows = []
    for row in weight:
        parts = []
        for start in range(0, len(row), group):
            part = row[start : start + group]
            scale = max(float(part.abs().sum() / group), 1e-8)  # missing elements count as zeros
            parts.append((part / scale).round().clamp(-1, 1) * scale)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@pytest.mark.parametrize("columns", [128, 100, 33])
def test_ternary_forward_and_straight_through_gradients(columns):
    x = torch.randn(2, 5, columns, requires_grad=True)
    weight = torch.randn(7, columns, requires_grad=True)
    upstream = torch.randn(2, 5, 7)
    y = TernaryLinear(group=64)(x, weight)
    expected = by_hand(weight.detach(), 64)
    assert torch.allclose(y, F.linear(x, expected), atol=1e-5)
    y.backward(upstream)
    assert torch.allclose(x.grad, upstream @ expected, atol=1e-5)
    assert torch.allclose(weight.grad, upstream.flatten(0, 1).T @ x.detach().flatten(0, 1), atol=1e-5)


def test_output_projections_normalise_their_input():
    x, weight = torch.randn(3, 64) * 9, torch.randn(5, 64)
    normed = TernaryLinear(64, norm_input=True)(x, weight)
    assert torch.equal(normed, TernaryLinear(64)(rms_norm(x), weight))
    assert not torch.allclose(normed, TernaryLinear(64)(x, weight))


def test_ternary_under_bfloat16_has_three_values_per_group():
    weight = torch.randn(6, 64)
    identity = torch.eye(64).bfloat16()
    used = TernaryLinear(32)(identity, weight).T.reshape(6, 2, 32).float()
    for group in used.flatten(0, 1):
        assert group.abs().unique().numel() <= 2
        assert group.unique().numel() <= 3


def test_float8_forward_and_gradient():
    x, weight = torch.randn(4, 48), torch.randn(6, 48, requires_grad=True)
    y = Fp8Linear()(x, weight)
    assert torch.equal(y, F.linear(x, weight.to(torch.float8_e4m3fn).float()))
    y.sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand(6, 48), atol=1e-6)


def test_operations_are_put_on_the_matrices_of_the_blocks():
    model = TwoBlocks()
    assert all(getattr(linear, "op", None) is None for linear in block_linears(model).values())
    assert len(block_linears(model)) == 4
    TernaryLinears(group=32)(model)
    assert {name: linear.op.norm_input for name, linear in block_linears(model).items()} == {
        "blocks.0.fc": False,
        "blocks.0.proj": True,
        "blocks.1.fc": False,
        "blocks.1.proj": True,
    }
    assert getattr(model.lm_head, "op", None) is None
    with pytest.raises(UserError, match="type model/linear=plain or qat=none"):
        Fp8Linears()(model)
    with pytest.raises(UserError, match="one operation per linear map"):
        put_operation("blocks.0.fc", SimpleNamespace(op=Fp8Linear()), Fp8Linear())


@pytest.mark.skipif("GOLF_CONFORMANCE" not in os.environ, reason="GOLF_CONFORMANCE names no folder of vectors")
@pytest.mark.parametrize("name", ["quant", "ternary"])
def test_published_vectors(name):
    from golf.interop.conform import run_conformance

    results = run_conformance([Path(os.environ["GOLF_CONFORMANCE"]) / "components" / f"{name}.json"])
    assert not [check for check in results if check.status == "fail"]
    supported = {check.quantity for check in results if check.status == "pass"}
    assert supported >= ({"y", "grad_x", "grad_W"} | ({"weights"} if name == "ternary" else {"y_eval"}))
