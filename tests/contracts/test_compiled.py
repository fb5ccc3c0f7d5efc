"""One compiled graph without breaks for a representative of each family, equal to the eager network on the CPU.

Generating code takes a minute per graph, tracing it seconds: only the baseline is compiled to code, the others are
traced forward and backward and run as traced (`aot_eager`), which is where breaks and stale constants show.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from model_options import network
from tiny import tiny

BASELINE = ["experiment=baseline"]
PACKED = [
    *("model/depth=loop", "model/skips=gated", "model/lanes=parallel", "model/gate=sparse", "model/smear=input_gate"),
    *("model/xsa=exclusive", "model.residual.norm_scale=true", "model/rope=partial", "model/mlp=leaky_relu2"),
]
RECURRENT = [
    *("model/depth=mini_recurrence", "model/values=embedding", "model/bigram=hash_b", "model/lanes=routed"),
    *("model/weights=banks", "model/smear=channel_b"),
]
TERNARY = [
    *("model/linear=ternary", "model/embedding=factored", "model/objective=z_loss", "model/rope=yarn"),
    *("model/softcap=polynomial", "model/attention=fused_qkv"),
]
FAMILIES = {"packed": (PACKED, 4), "recurrent": (RECURRENT, 4), "ternary": (TERNARY, 2)}


def batch(packed: bool) -> tuple[Any, ...]:
    """Arguments of a training forward: two rows, or one flat row of documents of at most 8 tokens."""
    ids_BT = torch.randint(2, 64, (1, 25) if packed else (2, 13), generator=torch.Generator().manual_seed(2))
    arguments = (ids_BT[:, :-1].contiguous(), ids_BT[:, 1:].contiguous(), "mean")
    return (*arguments, torch.tensor([0, 5, 13, 19, 24], dtype=torch.int32), 8) if packed else arguments


def loss_and_gradients(net: Any, arguments: tuple[Any, ...]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    net.zero_grad()
    loss = net(*arguments)
    loss.backward()
    return loss.detach(), [torch.zeros(()) if p.grad is None else p.grad.clone() for p in net.parameters()]


def compare(overrides: list[str], layers: int, packed: bool, backend: str) -> None:
    """Every phase, from the first to the last and back: what chooses the graph is never baked into another one."""
    torch._dynamo.reset()
    nets = [network(tiny(overrides, layers)) for _ in range(2)]
    nets[1].compile(fullgraph=True, dynamic=False, backend=backend)
    last = len(nets[0].plan.phases) - 1
    losses = {}
    for phase in dict.fromkeys([0, last]):
        for net in nets:
            net.phase = phase
        (expected, gradients), (loss, found) = (loss_and_gradients(net, batch(packed)) for net in nets)
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        for mine, eager in zip(found, gradients):
            tolerance = 1e-5 if eager.dtype == torch.float32 else 2e-3  # of tables in bfloat16
            torch.testing.assert_close(mine, eager, atol=tolerance, rtol=10 * tolerance)
        losses[phase] = loss
    if last:
        assert losses[0] != losses[last]
        nets[1].phase = 0
        with torch.no_grad():
            assert torch.allclose(nets[1](*batch(packed)), losses[0], atol=1e-5)


def test_baseline() -> None:
    compare(BASELINE, 2, packed=False, backend="inductor")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str) -> None:
    compare(*FAMILIES[family], packed=family == "packed", backend="aot_eager")
