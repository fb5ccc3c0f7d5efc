"""Scored positions only in the last visit: right for every mixture of parts, refused by parts that don't know it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from golf.models.attention.sdpa import Sdpa
from golf.models.residual.pre_norm import PreNormBlock

sys.path.insert(0, str(Path(__file__).parent))
from model_options import network
from tiny import tiny

# Every part once or more, in mixtures that no record has.
MIXTURES = [
    "attention=cross_sequence mlp=gelu residual=parallel lanes=parallel gate=double depth=plain smear=channel_b",
    "attention=fused_qkv mlp=leaky_relu2 residual=pre_norm lanes=decoupled gate=dense xsa=exclusive skips=gated",
    "attention=grouped_query mlp=relu2 lanes=routed gate=sparse depth=loop_two_phase rope=yarn values=residual",
    "mlp=swiglu residual=x0_mix depth=mini_recurrence values=embedding xsa=exclusive linear=ternary rope=partial",
    "residual=parallel depth=cycle linear=fp8 weights=low_rank bigram=hash_a smear=input_gate softcap=polynomial",
]
EXPECTED = 1e-6


def losses(net: Any, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses from `first` on, of everything and of the wanted positions."""
    ids_BT = torch.randint(2, 64, (3, 25), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole_BT = net(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none")
        return whole_BT[:, first:], net.nll_suffix(ids_BT[:, :-1], ids_BT[:, 1:], first)


def rounding(net: Any) -> float:
    """How far the plain network's losses move where rows end a token earlier: sums in another order, nothing else."""
    ids_BT = torch.randint(2, 64, (3, 25), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole_BT = net(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none")
        shorter_BT = net(ids_BT[:, :-2], ids_BT[:, 1:-1], reduction="none")
    return float((whole_BT[:, :-1] - shorter_BT).abs().max())


@pytest.mark.parametrize("attention_free", [[], [2]])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixtures_of_parts(mixture: str, attention_free: list[int]) -> None:
    config = tiny([f"model/{part}" for part in mixture.split()] + ["model.weights.rank=4"] * ("low_rank" in mixture))
    if "attention_free" in config["model"]["residual"]:
        config["model"]["residual"]["attention_free"] = attention_free
    net = network(config).eval()
    assert net.restricted_visit(net.visits) == len(net.visits) - 1
    noise = rounding(net)
    assert noise < 1e-5
    for first in (1, 9, 23):
        whole_BS, found_BS = losses(net, first)
        assert (found_BS - whole_BS).abs().max() <= EXPECTED + noise
        neighbours_BS = whole_BS.roll(1, 1 if whole_BS.shape[1] > 1 else 0)
        assert (found_BS - neighbours_BS).abs().max() > 0.1  # a wrong position would be seen


@pytest.mark.parametrize("experiment", ["record/0409_loop35_parallel", "record/0427_lqer_sparse_gate_hp"])
def test_records_are_restricted(experiment: str) -> None:
    net = network(tiny([f"experiment={experiment}"], layers=None)).eval()
    assert net.restricted_visit(net.visits) is not None
    whole_BS, found_BS = losses(net, 15)
    assert (found_BS - whole_BS).abs().max() <= EXPECTED


def test_positions_of_every_row_differ() -> None:
    net = network(tiny(["experiment=baseline"])).eval()
    ids_BT = torch.randint(2, 64, (4, 21), generator=torch.Generator().manual_seed(1))
    positions_BS = torch.stack([torch.randperm(20)[:6] for _ in range(4)])
    with torch.no_grad():
        whole_BT = net(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none")
        found_BS = net.nll_at(ids_BT[:, :-1], ids_BT[:, 1:], positions_BS)
    assert (found_BS - whole_BT.gather(1, positions_BS)).abs().max() <= EXPECTED


class NeighbourMlp(torch.nn.Module):
    """Not positionwise: adds the input of the position before."""

    def forward(self, x_BTD: torch.Tensor, context: Any = None) -> torch.Tensor:
        return x_BTD + torch.nn.functional.pad(x_BTD, (0, 0, 1, 0))[:, :-1]


class OwnBlock(PreNormBlock):
    """Overrides a method without knowing of the cut."""

    def forward(self, x_BTD: torch.Tensor, context: Any) -> torch.Tensor:
        return x_BTD + 2.0 * self.attention(x_BTD, context)


class LocalAttention(Sdpa):
    """A backend that is not plain causal attention."""

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, context: Any) -> torch.Tensor:
        return super().__call__(q, k, v, context) + v.mean(2, keepdim=True).repeat_interleave(2, 1)


@pytest.mark.parametrize("part", ["mlp", "block", "backend", "hook"])
def test_a_part_that_does_not_say_so_computes_everything(part: str) -> None:
    net = network(tiny(["experiment=baseline"])).eval()
    block = net.blocks[-1]
    if part == "mlp":
        block.mlp = NeighbourMlp()
    elif part == "block":
        net.blocks[-1] = OwnBlock(32, block.attn, block.mlp)
    elif part == "backend":
        block.attn.backend = LocalAttention()
    else:
        block.attn.register_forward_hook(lambda module, arguments, output: (output[0] + arguments[0], output[1]))
    assert net.restricted_visit(net.visits) is None
    whole_BS, found_BS = losses(net, 15)
    assert torch.equal(found_BS, whole_BS)


def test_less_is_computed() -> None:
    """The last block's output projection, MLP and the head see the scored positions only, keys and values all."""
    net = network(tiny(["experiment=baseline"])).eval()
    seen: dict[str, int] = {}
    wanted = ("attn.c_q", "attn.c_k", "attn.c_v", "attn.proj", "mlp.fc", "mlp.proj")
    for name in wanted:

        def note(module: Any, arguments: Any, output: Any, name: str = name) -> None:
            seen[name] = arguments[0].shape[1]

        net.blocks[-1].get_submodule(name).register_forward_hook(note)
    ids_BT = torch.randint(2, 64, (1, 25))
    with torch.no_grad():
        net.nll_suffix(ids_BT[:, :-1], ids_BT[:, 1:], 15)
    assert seen == dict(zip(wanted, (9, 24, 24, 9, 9, 9)))
