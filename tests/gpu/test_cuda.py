"""What only a GPU can show: the compiled step, no hidden synchronisation, the same losses as the reference loop."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from golf.clock import BudgetClock
from golf.config.build import build
from golf.config.compose import compose
from golf.loop import seed_everything, train, warm_up

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def small(folder: Path, dtype: str = "bfloat16") -> dict:
    config = copy.deepcopy(compose("train", ["data=synthetic", "budget=steps"]))
    config["model"].update(num_layers=4, width=256, num_heads=4, num_kv_heads=2, vocab_size=256, compute_dtype=dtype)
    config["data"].update(folder=str(folder), vocab_size=256, train_tokens=200_000, val_tokens=5_000)
    config["data"].update(tokens_per_step=16_384, seq_len=256, spans_per_step=2)
    return config


def run(config: dict, steps: int, compiled: bool) -> list[float]:
    device = torch.device("cuda")
    seed_everything(1337)
    data = build(config["data"])
    net = build(config["model"]).to(device)
    if compiled:
        net.compile(fullgraph=True, dynamic=False)
    optimizer = build(config["optim"])(net)
    stream = data.stream(data.prepare(say=lambda line: None), 256)
    warm_up(net, optimizer, stream, 2, device)
    losses: list[torch.Tensor] = []
    clock = BudgetClock(stream.tokens_per_step, max_steps=steps, synchronise=torch.cuda.synchronize)
    train(
        net, optimizer, stream, build(config["schedule"]), clock, device, on_step=lambda step, loss: losses.append(loss)
    )
    return [float(loss) for loss in losses]


def test_compiled_and_eager_steps_agree(tmp_path: Path) -> None:
    config = small(tmp_path)
    eager, compiled = run(config, 10, False), run(config, 10, True)
    assert eager == pytest.approx(compiled, abs=0.05)
    assert compiled[-1] < compiled[0]


def test_gpu_and_cpu_agree_in_float32(tmp_path: Path) -> None:
    config = small(tmp_path, "float32")
    seed_everything(1)
    net = build(config["model"])
    ids_BT = torch.randint(0, 256, (2, 65))
    cpu = net(ids_BT[:, :-1], ids_BT[:, 1:], reduction="none")
    gpu = net.cuda()(ids_BT[:, :-1].cuda(), ids_BT[:, 1:].cuda(), reduction="none")
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-3, rtol=1e-3)


def test_an_idle_step_does_not_synchronise(tmp_path: Path) -> None:
    config = small(tmp_path)
    device = torch.device("cuda")
    seed_everything(0)
    data = build(config["data"])
    net = build(config["model"]).to(device)
    optimizer = build(config["optim"])(net)
    stream = data.stream(data.prepare(say=lambda line: None), 256)
    warm_up(net, optimizer, stream, 2, device)
    batches = [tuple(t.pin_memory() for t in stream.batch(index)[:2]) for index in range(4)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for inputs_BT, targets_BT in batches:
            loss = net(inputs_BT.to(device, non_blocking=True), targets_BT.to(device, non_blocking=True))
            loss.backward()
            optimizer.set_rates(0.5, 0.9)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
