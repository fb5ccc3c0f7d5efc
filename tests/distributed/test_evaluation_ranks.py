"""Scoring on two gloo ranks: the sums of one rank, and test-time training that waits for the other rank's scores.

Without learning the sums agree to the last bit. SGD adds up gradients in another order, so losses agree to 1e-4.
"""

from __future__ import annotations

import multiprocessing
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist

from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.evaluation.adaptive import Adaptive
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.document import DocumentIsolated
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding
from golf.ttt.lora import LoraTtt
from golf.ttt.phased import PhasedTtt
from golf.ttt.sgd import SgdTtt

VOCAB, LENGTH = 64, 16


def lora(**options):
    return LoraTtt(targets=("q", "head"), rank=2, chunk=8, batch_documents=1, learning_rate=0.02, **options)


def evaluators():
    sgd = SgdTtt(chunk_tokens=64, learning_rate=0.05, batch_sequences=3)
    phased = PhasedTtt(lora(order="longest_first"), SgdTtt(32, 0.1, 1, document_mask=True), documents=4, phases=1)
    return {
        "contiguous": Contiguous(LENGTH),
        "sliding": Sliding(LENGTH, 4),
        "document": DocumentIsolated(LENGTH, 8),
        "lora": Adaptive(LENGTH, 8, ttt=lora()),
        "sgd": Adaptive(LENGTH, 8, ttt=sgd),
        "phased": Adaptive(LENGTH, 8, ttt=phased),
    }


def scores(rank=0, world=1, sum_over_ranks=None):
    """Sums of every protocol, from this rank's point of view."""
    torch.set_num_threads(1)
    config = compose("train", ["experiment=smoke", "model.num_layers=2", "model.width=32", "model.num_heads=4"])[
        "model"
    ]
    torch.manual_seed(0)
    net = build(config | {"vocab_size": VOCAB, "num_kv_heads": 2, "compute_dtype": "float32"}).eval()
    for parameter in net.parameters():  # projections that start at zero would hide what is behind them
        parameter.data += 0.05 * torch.randn_like(parameter)
    rng = np.random.default_rng(1)
    tokens = (rng.integers(0, 4, 330) + 2 * (np.arange(330) % 7)).astype(np.uint16) + 2
    tokens[[0, 50, 61, 130, 210, 280]] = 1
    found = {}
    for name, evaluator in evaluators().items():
        result = evaluate(
            net, tokens, uniform_byte_table(VOCAB), evaluator, "cpu", 64, rank, world, None, sum_over_ranks, bos_id=1
        )
        assert result.coverage.complete, name
        found[name] = result.score.nats_sum
    return found


def run_rank(rank, port, queue):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def sum_over_ranks(tensor):
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    try:
        queue.put((rank, scores(rank, 2, sum_over_ranks)))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=run_rank, args=(rank, port, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = dict(queue.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(30)
    return found


def test_ranks_agree_and_equal_one_rank(both):
    one = scores()
    assert both[0] == both[1]
    for name, total in both[0].items():
        tolerance = {"sgd": 1e-4 * 329, "phased": 1e-4 * 329}.get(name, 1e-9)
        assert total == pytest.approx(one[name], abs=tolerance), name
