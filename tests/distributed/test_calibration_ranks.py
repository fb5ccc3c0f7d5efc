"""Two gloo ranks share calibration batches and GPTQ's solves: Hessians of all batches, codes of one process."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

SIZES = {"vocab_size": 48, "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "compute_dtype": "float32"}


def quantised_parts(rank, world):
    """Codes and scales of GPTQ on matrices of several shapes, its notes, and what a wrong Hessian is answered."""
    from golf.errors import UserError
    from golf.quant.gptq import Gptq
    from golf.quant.plan import QuantPlan
    from golf.quant.trellis import TrellisQuantiser

    generator = torch.Generator().manual_seed(3)
    shapes = {f"blocks.{n}.mlp.fc.weight": (600 if n % 2 else 40, 48) for n in range(7)} | {"head": (32, 24)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    inputs = {name: torch.randn(200, shape[1], generator=generator) for name, shape in shapes.items()}
    hessians = {name: x.T @ x for name, x in inputs.items()}
    hessians["blocks.1.mlp.fc.weight"] = -hessians["blocks.1.mlp.fc.weight"]
    plan = QuantPlan(Gptq(), small_numel=10, overrides={"head": TrellisQuantiser(4)})
    roles = dict.fromkeys(state, "matrix")
    quantised = plan.quantise(state, roles, hessians, rank, world)
    parts = {f"{n}.{p}": t for n, stored in quantised.tensors.items() for p, t in stored.parts().items()}
    try:
        plan.quantise(state, roles, hessians | {"blocks.4.mlp.fc.weight": torch.eye(3)}, rank, world)
        said = ""
    except UserError as error:
        said = str(error)
    return {"parts": parts, "notes": quantised.notes, "said": said}


def hessians_of(rank, world, port, folder, output):
    from golf.config.build import build
    from golf.config.compose import compose
    from golf.data.shards import Shards, train_shards
    from golf.data.shuffled import ShuffledStream
    from golf.quant.calibrate import TrainingTokens

    torch.set_num_threads(1 if world > 1 else 2)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    torch.manual_seed(0)
    net = build({**compose("train", [])["model"], **SIZES})
    source = TrainingTokens(ShuffledStream, batches=4, rows=2)
    found = source.hessians(net, Shards(train_shards(folder)), 16, rank, world)
    torch.save(found, f"{output}_{world}_{rank}.pt")
    torch.save(quantised_parts(rank, world), f"{output}_codes_{world}_{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


def test_ranks_get_the_hessians_of_all_batches(tmp_path: Path) -> None:
    from golf.data.shards import write_shard

    write_shard(tmp_path / "fineweb_train_000000.bin", np.random.default_rng(0).integers(2, 48, size=3000))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(target=hessians_of, args=(rank, 2, port, str(tmp_path), str(tmp_path / "h"))) for rank in (0, 1)
    ]
    for job in jobs:
        job.start()
    hessians_of(0, 1, port, str(tmp_path), str(tmp_path / "h"))
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    whole, *parts = (torch.load(tmp_path / f"h_{name}.pt") for name in ("1_0", "2_0", "2_1"))
    for part in parts:
        assert set(part) == set(whole)
        assert all(torch.allclose(part[name], whole[name], rtol=1e-5, atol=1e-6) for name in whole)
    alone, *shared = (torch.load(tmp_path / f"h_codes_{name}.pt") for name in ("1_0", "2_0", "2_1"))
    assert alone["notes"] == (
        "blocks.1.mlp.fc.weight: has a Hessian that is not positive definite: rounded to nearest",
    )
    assert "the Hessian of 'blocks.4.mlp.fc.weight' is for 3 columns, not 48" in alone["said"]
    for other in shared:
        assert other["notes"] == alone["notes"]
        assert other["said"] == alone["said"]
        assert list(other["parts"]) == list(alone["parts"])
        assert all(torch.equal(other["parts"][name], part) for name, part in alone["parts"].items())
