"""Banks: parameters keep their values as views of one tensor; whatever breaks that is noticed and repaired."""

import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from golf.optim.banks import bank_of, bank_parameters, stacked_as, views_of_bank
from golf.optim.composite import Composite
from golf.optim.muon import MuonRule, orthogonalise


class Net(nn.Module):
    """Four matrices of one shape, two of another, and a stack."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = [(8, 8), (4, 8), (8, 8), (8, 8), (4, 8), (8, 8), (3, 4, 8)]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(s, generator=generator)) for s in shapes)


def optimiser(net, **options):
    group = {"params": list(net.parameters()), "rule": "it", "base_lr": 0.1, "weight_decay": 0.1}
    return Composite([group], {"it": MuonRule(newton_schulz_dtype="float32", **options)})


def give_gradients(net, seed, skip=()):
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(net.parameters()):
        gradient = torch.randn(p.shape, generator=generator)
        p.grad = None if i in skip else gradient


def of_shape(net, shape):
    return [p for p in net.parameters() if tuple(p.shape[-2:]) == shape]


def test_banks_hold_the_same_values_in_one_tensor():
    net, before = Net(), Net()
    assert bank_of(of_shape(net, (8, 8))) is None
    bank_parameters(list(net.parameters()))
    for a, b in zip(net.parameters(), before.parameters()):
        assert torch.equal(a, b)
    squares, wide = bank_of(of_shape(net, (8, 8))), bank_of(of_shape(net, (4, 8)))
    assert (squares.shape, wide.shape) == ((4, 8, 8), (5, 4, 8))
    squares[2].fill_(7.0)
    assert net.weights[3].eq(7.0).all()
    again = squares.data_ptr()
    bank_parameters(list(net.parameters()))
    assert bank_of(of_shape(net, (8, 8))).data_ptr() == again


def test_a_broken_bank_is_noticed():
    net = Net()
    bank_parameters(list(net.parameters()))
    squares = of_shape(net, (8, 8))
    assert bank_of(squares) is not None
    assert bank_of([squares[1], squares[0]]) is None, "another order is another tensor"
    squares[1].data = squares[1].data.clone()
    assert bank_of(squares) is None
    bank_parameters(squares)
    assert bank_of(squares) is not None
    assert bank_of(of_shape(net.double(), (8, 8))) is None


def test_loading_a_state_dict_keeps_the_banks_and_saving_knows_nothing_of_them():
    net, other = Net(), Net()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(2.0)
    bank_parameters(list(net.parameters()))
    net.load_state_dict(other.state_dict())
    assert bank_of(of_shape(net, (8, 8))) is not None
    assert torch.equal(bank_of(of_shape(net, (8, 8)))[3], other.weights[5])
    stored = load(save(dict(net.state_dict())))
    assert all(torch.equal(stored[name], tensor) for name, tensor in other.state_dict().items())
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.weights[0].zero_()
    assert not net.weights[0].eq(0).any()


@pytest.mark.parametrize("momentum_dtype", ["float32", "bfloat16"])
def test_an_update_of_banks_is_the_update_of_each_matrix(momentum_dtype):
    """Also when some have no gradient, and after the memory was moved behind the optimizer's back."""
    net, alone = Net(), Net()
    bank_parameters(list(net.parameters()))
    ours = optimiser(net, momentum_dtype=momentum_dtype)
    each = [
        Composite(
            [{"params": [p], "rule": "it", "base_lr": 0.1, "weight_decay": 0.1}],
            {"it": MuonRule(newton_schulz_dtype="float32", momentum_dtype=momentum_dtype)},
        )
        for p in alone.parameters()
    ]
    for step, skip in enumerate([(), (0, 3), (0, 3), (), (1, 6), ()]):
        give_gradients(net, step, skip)
        give_gradients(alone, step, skip)
        if step == 4:
            assert bank_of(of_shape(net, (8, 8))) is not None
            for p in net.parameters():
                p.data = p.data.clone()
        ours.step()
        for optimizer in each:
            optimizer.step()
        for a, b in zip(net.parameters(), alone.parameters()):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    assert {state["momentum_buffer"].dtype for state in ours.state.values()} == {getattr(torch, momentum_dtype)}


@pytest.mark.parametrize("momentum_dtype", ["float32", "bfloat16"])
def test_resuming_is_bit_exact(momentum_dtype, tmp_path):
    net, twin = Net(), Net()
    ours = optimiser(net, momentum_dtype=momentum_dtype)
    for step in range(3):
        give_gradients(net, step)
        ours.step()
    torch.save(ours.state_dict(), tmp_path / "state.pt")
    second = optimiser(twin, momentum_dtype=momentum_dtype)
    twin.load_state_dict(net.state_dict())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        for model, optimizer in ((net, ours), (twin, second)):
            give_gradients(model, step)
            optimizer.step()
    for a, b in zip(net.parameters(), twin.parameters()):
        assert torch.equal(a, b)


def test_a_compiled_forward_sees_the_weights_after_they_were_banked():
    net = Net()
    forward = torch.compile(lambda x: x @ net.weights[0] @ net.weights[5], backend="eager")
    x = torch.ones(2, 8)
    forward(x)
    bank_parameters(list(net.parameters()))
    with torch.no_grad():
        net.weights[5].mul_(3.0)
    torch.testing.assert_close(forward(x), x @ net.weights[0] @ net.weights[5])


def test_padding_and_dtype_of_a_stack():
    tensors = [torch.ones(2, 3), 2 * torch.ones(2, 2, 3)]
    stack = stacked_as(tensors, torch.bfloat16, matrices=4)
    assert (stack.shape, stack.dtype) == ((4, 2, 3), torch.bfloat16)
    assert stack[3].eq(0).all()
    assert [view.float().mean().item() for view in views_of_bank(stack, tensors)] == [1.0, 2.0]
    assert orthogonalise(stack)[3].eq(0).all()
