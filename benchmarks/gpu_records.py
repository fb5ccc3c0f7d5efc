"""Training speed of the challenge's baseline on one GPU: 9 layers x 512, 65,536 tokens per micro-step, compiled bf16.

    python benchmarks/gpu_baseline.py [--steps 12] [--out benchmarks/results/gpu_baseline.json]

Reports tokens/s of complete optimizer steps (8 micro-steps of 65,536 tokens, Muon and Adam included), MFU and peak
memory; published: 1.505 M tokens/s per H100 within 8 x H100. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
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
from golf.loop import seed_everything, to_device, warm_up
from golf.training.device import peak_flops
from golf.training.flops import training_flops_per_token


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu_baseline.json"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing measured")
        return 0
    result = measure(arguments.steps)
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(steps: int) -> dict:
    """Time `steps` optimizer steps after warm-up; tokens/s from the median step."""
    device = torch.device("cuda")
    torch.set_float32_matmul_precision("high")
    config = compose("train", ["experiment=baseline"])
    config["model"]["compute_dtype"] = "bfloat16"
    source = compose("train", ["data=synthetic"])["data"]
    with tempfile.TemporaryDirectory() as folder:
        data = build({**source, "folder": folder})
        stream = data.stream(data.prepare(say=lambda line: None), 1024)
        seed_everything(config["seed"])
        net = build(config["model"]).to(device)
        net.compile(fullgraph=True, dynamic=False)
        optimizer = build(config["optim"])(net)
        begun = time.monotonic()
        warm_up(net, optimizer, stream, 2, device)
        torch.cuda.synchronize()
        compile_seconds = time.monotonic() - begun
        accumulate = stream.micro_steps(1)
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        for step in range(steps):
            torch.cuda.synchronize()
            begun = time.monotonic()
            for micro in range(accumulate):
                inputs_BT, targets_BT = to_device(stream.batch(step * accumulate + micro), device)
                (net(inputs_BT, targets_BT) / accumulate).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
            seconds.append(time.monotonic() - begun)
    median = sorted(seconds)[len(seconds) // 2]
    tokens_per_second = stream.tokens_per_step / median
    peak = peak_flops({"accelerator": "cuda", "compute_dtype": "bfloat16"})
    flops = training_flops_per_token(net, 1024) * tokens_per_second
    return {
        "benchmark": "gpu_baseline",
        "hardware": torch.cuda.get_device_name(),
        "date": date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "torch": torch.__version__,
        "steps": steps,
        "tokens_per_micro_step": stream.tokens_per_step // accumulate,
        "step_seconds_median": median,
        "step_seconds": seconds,
        "tokens_per_second": tokens_per_second,
        "published_tokens_per_second_per_h100": 1_505_000,
        "mfu": flops / peak if peak else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "warm_up_seconds": compile_seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
