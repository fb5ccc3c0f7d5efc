"""Documents of a packed row: any number of them is one compiled graph, and boundaries that do not fit are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from model_options import network
from tiny import tiny

from golf.data.packed import segment_boundaries
from golf.errors import UserError

T, LONGEST = 64, 16
PACKED = ["experiment=record/0427_lqer_sparse_gate_hp", "model.compute_dtype=float32"]


def layout(rng: np.random.Generator, documents: int, bucket: int) -> tuple[torch.Tensor, ...]:
    """A row with this many documents: inputs, targets, boundaries."""
    ids = rng.integers(2, 64, T + 1)
    ids[rng.choice(np.arange(1, T), documents - 1, replace=False)] = 1
    row = torch.from_numpy(ids)[None]
    cu_seqlens = torch.from_numpy(segment_boundaries(ids[:-1], 1, LONGEST, bucket))
    return row[:, :-1].contiguous(), row[:, 1:].contiguous(), cu_seqlens


def test_any_number_of_documents_is_one_graph_per_phase() -> None:
    """Rows of 1 to 60 documents, boundaries in buckets of 4 and of 1: two graphs (both phases), the eager losses."""
    torch._dynamo.reset()
    nets = [network(tiny(PACKED, 3)).train() for _ in range(2)]
    graphs: list[int] = []

    def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(len(inputs))
        return module

    nets[1].compile(fullgraph=True, dynamic=False, backend=backend)
    rng = np.random.default_rng(0)
    lengths = set()
    for phase in range(len(nets[0].plan.phases)):
        for net in nets:
            net.phase = phase
        for documents in (3, 1, 60, 17, 30, 2):
            for bucket in (4, 1):
                inputs_BT, targets_BT, cu_seqlens = layout(rng, documents, bucket)
                lengths.add(len(cu_seqlens))
                losses = [net(inputs_BT, targets_BT, "mean", cu_seqlens, LONGEST) for net in nets]
                torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    assert len(lengths) >= 9
    assert len(graphs) == len(nets[0].plan.phases) == 2


@pytest.mark.slow
def test_generated_code_takes_any_number_of_documents() -> None:
    """The same with code generated for the CPU, forward and backward."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = network(tiny(["experiment=baseline", "model.compute_dtype=float32"], 2)).train()
    net.compile(fullgraph=True, dynamic=False)
    rng = np.random.default_rng(0)
    for documents in (3, 17, 1, 60):
        inputs_BT, targets_BT, cu_seqlens = layout(rng, documents, 1)
        net(inputs_BT, targets_BT, "mean", cu_seqlens, LONGEST).backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("boundaries", "longest", "said"),
    [
        ([0, 10, 80], 0, "do not fit a row of 64 tokens"),
        ([0, 10, 60], 0, "do not fit a row of 64 tokens"),
        ([4, 10, 64], 0, "boundaries from 4 to 64 do not fit"),
        ([0, 10, 64], 16, "segment of 54 tokens is longer than max_seqlen=16"),
    ],
)
def test_boundaries_that_do_not_fit_are_refused(boundaries: list[int], longest: int, said: str) -> None:
    """In particular longer than the row, or than what attention looks back: a mask would be cut without a word."""
    net = network(tiny(["experiment=baseline"], 2))
    ids_BT = torch.zeros(1, T, dtype=torch.int64)
    with pytest.raises(UserError, match=said):
        net(ids_BT, ids_BT, "mean", torch.tensor(boundaries, dtype=torch.int32), longest)
