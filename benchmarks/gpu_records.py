"""Training speed of published records on one GPU at their real shapes: complete optimizer steps, compiled, bf16.

    python benchmarks/gpu_records.py                      (three records; benchmarks/results/gpu_records.json)
    python benchmarks/gpu_records.py --only record/0427_lqer_sparse_gate_hp --steps 12
    python benchmarks/gpu_records.py --only record/0427_lqer_sparse_gate_hp --fused     (with golf's Triton kernels)
    python benchmarks/gpu_records.py --device cpu --tokens 2048 --steps 1 --eager        (a dry run without a GPU)

A step is the record's own batch in eight micro-steps, as on one of eight devices, with its optimizer; looped layers are
on. Reported: tokens/s of the median step, MFU, peak memory, the published tokens/s per H100 of the 8 x H100 run, and of
one further step under torch's profiler the ten kernels that take most time and the share of the step they leave idle.
`--fused`: model/mlp=leaky_relu2_fused where the record's MLP is leaky_relu2, and model/objective=fused.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

from golf.config.build import build
from golf.config.compose import compose
from golf.loop import seed_everything, to_device, training_loss, warm_up
from golf.training.device import peak_flops
from golf.training.flops import training_flops_per_token

# Experiment -> published tokens per second and H100.
RECORDS = {
    "baseline": 1_505_000,
    "record/0322_ema_gptq_lite": 1_163_000,
    "record/0427_lqer_sparse_gate_hp": 808_000,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=tuple(RECORDS), action="append", default=[])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--backend", choices=("sdpa", "flex", "fa3"), default="sdpa")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=0, help="tokens per micro-step; 0: the record's own")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--fused", action="store_true", help="Triton kernels of MLP and loss")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu_records.json"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing measured")
        return 0
    results = [measure(name, arguments) for name in arguments.only or RECORDS]
    document = {
        "benchmark": "gpu_records",
        "hardware": torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU (dry run)",
        "date": date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "torch": torch.__version__,
        "results": results,
    }
    print(json.dumps(document, indent=1))
    if arguments.device == "cuda":
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measure(name: str, arguments: argparse.Namespace) -> dict:
    """Time optimizer steps of one record after its warm-up."""
    device = torch.device(arguments.device)
    torch.set_float32_matmul_precision("high")
    config = copy.deepcopy(compose("train", overrides_of(name, arguments)))
    config["model"]["compute_dtype"] = "bfloat16"
    node = compose("train", ["data=synthetic"])["data"]
    node |= {key: config["data"][key] for key in ("tokens_per_step", "seq_len", "spans_per_step", "order")}
    if arguments.tokens:
        node |= {"spans_per_step": 1, "tokens_per_step": arguments.tokens}
    needed = 2 * node["tokens_per_step"] + 100_000
    with tempfile.TemporaryDirectory() as folder:
        data = build({**node, "folder": folder, "train_tokens": needed})
        prepared = data.prepare(say=lambda line: None)
        stream = data.stream(prepared, node["vocab_size"])
        seed_everything(config["seed"])
        net = build(config["model"]).to(device)
        if not arguments.eager:
            torch._dynamo.config.recompile_limit = 64
            net.compile(fullgraph=True, dynamic=False)
        optimizer = build(config["optim"])(net)
        begun = time.monotonic()
        warm_up(net, optimizer, stream, 1, device)
        synchronise(device)
        warm_up_seconds = time.monotonic() - begun
        accumulate = stream.micro_steps(1)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = [one_step(net, optimizer, stream, step, accumulate, device) for step in range(arguments.steps)]
        profile = profiled_step(net, optimizer, stream, arguments.steps, accumulate, device)
    median = sorted(seconds)[len(seconds) // 2]
    tokens_per_second = stream.tokens_per_step / median
    peak = peak_flops({"accelerator": device.type, "compute_dtype": "bfloat16"})
    flops = training_flops_per_token(net, node["seq_len"]) * tokens_per_second
    return {
        "experiment": name,
        "parameters": sum(p.numel() for p in net.parameters()),
        "backend": arguments.backend,
        "fused": arguments.fused,
        "tokens_per_micro_step": stream.tokens_per_step // accumulate,
        "step_seconds_median": median,
        "step_seconds": seconds,
        "tokens_per_second": tokens_per_second,
        "published_tokens_per_second_per_h100": RECORDS[name],
        "mfu": flops / peak if peak else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "warm_up_seconds": warm_up_seconds,
        "profile": profile,
    }


def overrides_of(name: str, arguments: argparse.Namespace) -> list[str]:
    """The record with the backend, and with golf's kernels where they compute what the record computes."""
    overrides = [f"experiment={name}", f"model/backend={arguments.backend}"]
    if arguments.fused:
        mlp = compose("train", overrides)["model"]["mlp"]
        leaky = mlp["_target_"].endswith(".LeakyReluPower") and mlp["power"] == 2
        fused = ["model/mlp=leaky_relu2_fused", f"model.mlp.slope={mlp['slope']}"] if leaky else []
        overrides += [*fused, "model/objective=fused"]
    return overrides


def profiled_step(net, optimizer, stream, step, accumulate, device) -> dict:
    """One step under torch's profiler: the ten kernels with most time on the device, and how much of the step is idle.

    The profiler slows the step itself: shares are what this is for, not milliseconds.
    """
    on_gpu = device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        seconds = one_step(net, optimizer, stream, step, accumulate, device)
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = sorted(profiler.key_averages(), key=lambda event: -getattr(event, attribute))
    busy = sum(getattr(event, attribute) for event in found) * 1e-6
    kernels = [
        {
            "kernel": event.key[:120],
            "calls": event.count,
            "seconds": getattr(event, attribute) * 1e-6,
            "share_of_kernels": round(getattr(event, attribute) * 1e-6 / busy, 4) if busy else None,
        }
        for event in found[:10]
    ]
    return {"step_seconds": seconds, "kernel_seconds": busy, "idle_share": 1 - busy / seconds, "kernels": kernels}


def one_step(net, optimizer, stream, step, accumulate, device) -> float:
    """Seconds of one optimizer step with all its micro-steps."""
    synchronise(device)
    begun = time.monotonic()
    for micro in range(accumulate):
        batch = to_device(stream.batch(step * accumulate + micro), device)
        (training_loss(net, batch, stream) / accumulate).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    synchronise(device)
    return time.monotonic() - begun


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
