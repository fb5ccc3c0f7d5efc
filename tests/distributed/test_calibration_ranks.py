"""Two gloo ranks that share the calibration batches get the Hessians that one process gets from all of them."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

SIZES = {"vocab_size": 48, "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "compute_dtype": "float32"}


def hessians_of(rank, world, port, folder, output):
    from golf.config.build import build
    from golf.config.compose import compose
    from golf.data.shards import Shards, train_shards
    from golf.data.shuffled import ShuffledStream
    from golf.quant.calibrate import TrainingTokens

    torch.set_num_threads(1)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    torch.manual_seed(0)
    net = build({**compose("train", [])["model"], **SIZES})
    source = TrainingTokens(ShuffledStream, batches=4, rows=2)
    found = source.hessians(net, Shards(train_shards(folder)), 16, rank, world)
    torch.save(found, f"{output}_{world}_{rank}.pt")
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
