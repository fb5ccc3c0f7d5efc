"""Packed rows: documents do not see each other where that is claimed, whatever the options, and backends agree."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from model_options import RUNNABLE, config_of, network, phases
from tiny import tiny

from golf.models.attention.documents import document_attention
from golf.models.attention.flex import Flex
from golf.models.attention.sdpa import Sdpa
from golf.models.context import Context

BOS, LENGTH = 1, 24
STARTS = (0, 5, 13, 19)
# The records' own leaks: the token before enters by a hash or a smear gate, also where it is another document's last.
LEAKS = {
    ("bigram", "hash_a"),
    ("bigram", "hash_b"),
    ("bigram", "trigram"),
    ("smear", "channel_a"),
    ("smear", "channel_b"),
}
MASKED = [("smear", option) for option in ("channel_a", "channel_b", "input_gate")]


def packed_row() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, the same with another middle document, targets and boundaries; documents start with BOS."""
    generator = torch.Generator().manual_seed(4)
    ids_BT = torch.randint(2, 64, (1, LENGTH), generator=generator)
    ids_BT[:, list(STARTS)] = BOS
    changed_BT = ids_BT.clone()
    changed_BT[:, 6:13] = 2 + (changed_BT[:, 6:13] + 5) % 60
    targets_BT = torch.randint(2, 64, (1, LENGTH), generator=generator)
    return ids_BT, changed_BT, targets_BT, torch.tensor([*STARTS, LENGTH], dtype=torch.int32)


def losses_of(net, ids_BT, targets_BT, boundaries):
    with torch.no_grad():
        return net(ids_BT, targets_BT, "none", boundaries, 8)[0]


def compare(net) -> tuple[torch.Tensor, torch.Tensor]:
    ids_BT, changed_BT, targets_BT, boundaries = packed_row()
    return tuple(losses_of(net, row_BT, targets_BT, boundaries) for row_BT in (ids_BT, changed_BT))  # type: ignore[return-value]


@pytest.mark.parametrize(("group", "option"), RUNNABLE, ids=lambda value: value)
def test_a_document_does_not_change_the_losses_of_others(group: str, option: str) -> None:
    net = network(config_of(group, option)).eval()
    for _ in phases(net):
        before_T, after_T = compare(net)
        assert torch.equal(before_T[:5], after_T[:5])
        assert not torch.equal(before_T[6:13], after_T[6:13])
        assert torch.equal(before_T[13:], after_T[13:]) == ((group, option) not in LEAKS)


@pytest.mark.parametrize(("group", "option"), MASKED, ids=lambda value: value)
def test_the_mask_of_a_smear_gate_closes_its_leak(group: str, option: str) -> None:
    """Without the mask the last token before a document enters it, with the mask it does not; the first has none."""
    nets = [
        network(config_of(group, option, f"model.smear.mask_document_start={mask}")).eval()
        for mask in ("true", "false")
    ]
    (kept, also_kept), (open_, changed) = (compare(net) for net in nets)
    assert torch.equal(kept[13:], also_kept[13:])
    assert (open_[13:] - changed[13:]).abs().max() > 1e-4
    assert torch.equal(open_[:5], changed[:5])
    assert torch.equal(open_[:5], kept[:5])


def test_losses_of_a_document_are_those_it_has_alone() -> None:
    """Attention depends on distances only, so that a document's place in the row does not matter (to rounding)."""
    net = network(tiny(["model/smear=input_gate", "model/depth=loop", "model/gate=sparse"], 6)).eval()
    ids_BT, _, targets_BT, boundaries = packed_row()
    packed_T = losses_of(net, ids_BT, targets_BT, boundaries)
    for begin, end in zip(STARTS, (*STARTS[1:], LENGTH)):
        alone_T = losses_of(net, ids_BT[:, begin:end], targets_BT[:, begin:end], None)
        torch.testing.assert_close(packed_T[begin:end], alone_T, atol=1e-5, rtol=1e-5)


def attention_inputs(length: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(1, heads, length, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2))


@pytest.mark.parametrize("longest", [8, 16])
def test_blocks_give_what_a_dense_mask_gives(longest: int) -> None:
    """Forward and gradients; segments up to the longest allowed, padding of the list of boundaries included."""
    q, k, v = attention_inputs(64)
    boundaries = torch.tensor([0, 3, 11, 18, 26, 34, 35, 42, 50, 58, 64, 64, 64], dtype=torch.int32)
    upstream = torch.randn(1, 4, 64, 8, generator=torch.Generator().manual_seed(1))
    assert boundaries.diff().max() == 8
    found = [document_attention(q, k, v, boundaries, limit) for limit in (longest, 0)]
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(y, (q, k, v), upstream) for y in found]
    for mine, dense in zip(*gradients):
        torch.testing.assert_close(mine, dense, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_flex_equals_sdpa(packed: bool) -> None:
    q, k, v = (x.detach() for x in attention_inputs(40))
    boundaries = torch.tensor([0, 7, 19, 40], dtype=torch.int32) if packed else None
    nothing = torch.zeros(0)
    context = Context(nothing, nothing, nothing, nothing, boundaries, shared={})
    try:
        flex = Flex()(q, k, v, context)
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"FlexAttention does not run on this CPU: {error}")
    torch.testing.assert_close(flex, Sdpa()(q, k, v, context), atol=1e-6, rtol=1e-5)
