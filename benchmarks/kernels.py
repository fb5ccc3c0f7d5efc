"""Fused and memory-saving kernels against plain PyTorch, in pairs: time and peak memory, forward and backward.

    python benchmarks/kernels.py                     (what runs here; benchmarks/results/kernels_<device>.json)
    python benchmarks/kernels.py --tokens 4096 --pairs 5 --only chunked_loss
    python benchmarks/kernels.py --shape small          (a network of this size on a CPU: width 256, vocabulary 1024)

Each contestant is compiled, as it is in training (`--eager`: not), and timed in turn with the plain formula; the result
is the median of the ratios of a pair: above 1, the contestant is faster. On CPUs the processor time of one thread is
counted, which other load disturbs least, and peak memory is that of a process of its own, above what it held before.
Kernels that need Triton and a GPU are measured on a GPU; elsewhere they are listed as not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from golf.models.kernels.triton_text import triton_obstacle
from golf.models.layers import HeadLinear
from golf.models.mlp.fused_leaky_relu import FusedLeakyRelu2
from golf.models.mlp.leaky_relu_power import LeakyReluPower
from golf.models.objective.chunked_loss import ChunkedCrossEntropy
from golf.models.objective.fused_loss import FusedCrossEntropy
from golf.models.softcap import TanhSoftcap

# name -> width, MLP width, vocabulary, tokens of a pass. `record`: 27 April 2026, one of eight GPUs.
SHAPES = {"record": (512, 2048, 8192, 98_304), "small": (256, 1024, 1024, 16_384)}
CASES = ("chunked_loss", "fused_loss", "fused_mlp")
KEEPS_NOTHING = "MALLOC_MMAP_THRESHOLD_"  # glibc gives freed tensors back at once: resident is what is in use
NEEDS_TRITON = ("fused_loss", "fused_mlp")


class PlainLoss(torch.nn.Module):
    """What a network without an objective computes."""

    def forward(self, model: Any, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(model.logits(x_BTD).flatten(0, 1), targets_BT.flatten())


def contestants(case: str, arguments: argparse.Namespace) -> tuple[Callable[[], None], Callable[[], None]]:
    """(plain, contestant): one forward and backward each, on the same tensors."""
    width, hidden, vocabulary, tokens = SHAPES[arguments.shape]
    tokens = arguments.tokens or tokens
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    x_BTD = torch.randn(1, tokens, width, device=device, dtype=torch.bfloat16, requires_grad=True)
    if case == "fused_mlp":
        modules = [LeakyReluPower(width, hidden).to(device), FusedLeakyRelu2(width, hidden).to(device)]
        runs = [lambda x, module=module: module(x, None).float().square().mean() for module in modules]
        return compiled_pair(runs, (x_BTD,), arguments)
    head, softcap = HeadLinear(width, vocabulary).to(device), TanhSoftcap(30.0)
    targets_BT = torch.randint(0, vocabulary, (1, tokens), device=device)
    model = SimpleNamespace(
        raw_logits=head, logits=lambda x: softcap(head(x).float()), softcap=softcap
    )  # what an objective asks of a network
    other = ChunkedCrossEntropy(width, vocabulary, arguments.rows) if case == "chunked_loss" else None
    other = other or FusedCrossEntropy(width, vocabulary)
    runs = [lambda x, y, loss=loss: loss(model, x, y) for loss in (PlainLoss(), other)]
    return compiled_pair(runs, (x_BTD, targets_BT), arguments)


def compiled_pair(runs: list[Any], tensors: tuple[Tensor, ...], arguments: argparse.Namespace) -> Any:
    if not arguments.eager:
        runs = [torch.compile(run, fullgraph=True, dynamic=False) for run in runs]

    def once(run: Any) -> None:
        tensors[0].grad = None
        run(*tensors).backward()

    return tuple(lambda run=run: once(run) for run in runs)


def timed(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - begun
    begun = time.thread_time()
    run()
    return time.thread_time() - begun


def times(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of both and the median ratio of pairs (ABBA), after a warm-up that compiles."""
    torch.set_num_threads(1)
    pair = contestants(case, arguments)
    for run in pair:
        run()
        run()
    seconds: list[list[float]] = [[], []]
    for index in range(arguments.pairs):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            seconds[which].append(timed(pair[which], arguments.device))
    ratios = [plain / other for plain, other in zip(*seconds)]
    return {
        "plain_seconds": statistics.median(seconds[0]),
        "seconds": statistics.median(seconds[1]),
        "time_ratio": round(statistics.median(ratios), 3),
        "time_ratios": [round(ratio, 3) for ratio in ratios],
    }


def peak_bytes(case: str, which: int, arguments: argparse.Namespace) -> int:
    """Memory that one forward and backward needs at its peak above what is there before (weights, inputs, code)."""
    torch.set_num_threads(1)
    run = contestants(case, arguments)[which]
    if arguments.device == "cuda":
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    short = argparse.Namespace(**{**vars(arguments), "tokens": 64, "eager": True})
    contestants(case, short)[which]()  # libraries and threads are there now
    before = peak_resident()
    run()
    return peak_resident() - before


def peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    obstacle = triton_obstacle(arguments.device) if case in NEEDS_TRITON else ""
    if obstacle:
        return {"case": case, "not_measured": obstacle}
    eager = argparse.Namespace(**{**vars(arguments), "eager": arguments.eager or arguments.device == "cpu"})
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        os.environ[KEEPS_NOTHING] = "65536"
        plain, other = (fresh.submit(peak_bytes, case, which, eager).result() for which in (0, 1))
        del os.environ[KEEPS_NOTHING]
        found = fresh.submit(times, case, arguments).result()
    memory = {"plain_peak_bytes": plain, "peak_bytes": other, "memory_ratio": round(plain / max(other, 1), 3)}
    return {"case": case, **found, **memory}


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, 1 thread, {torch.backends.cpu.get_cpu_capability()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--only", choices=CASES, action="append", default=[])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="record")
    parser.add_argument("--tokens", type=int, default=0, help="tokens of a pass; 0: the shape's own")
    parser.add_argument("--rows", type=int, default=4096, help="rows of a chunk of the chunked loss")
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    width, hidden, vocabulary, tokens = SHAPES[arguments.shape]
    results = [measure(case, arguments) for case in arguments.only or CASES]
    document = {
        "benchmark": "kernels",
        "hardware": hardware(arguments.device),
        "date": date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "torch": torch.__version__,
        "width": width,
        "mlp_width": hidden,
        "vocabulary": vocabulary,
        "tokens": arguments.tokens or tokens,
        "rows_of_a_chunk": arguments.rows,
        "compiled": not arguments.eager,
        "memory_is_of": "eager" if arguments.eager or arguments.device == "cpu" else "compiled",
        "results": results,
    }
    out = arguments.out or Path(__file__).parent / "results" / f"kernels_{arguments.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    for found in results:
        if "not_measured" in found:
            print(f"{found['case']:14s} not measured: {found['not_measured']}")
        else:
            mib = [found[name] / 2**20 for name in ("plain_peak_bytes", "peak_bytes")]
            print(
                f"{found['case']:14s} time {found['time_ratio']:.3f}x, memory {found['memory_ratio']:.2f}x "
                f"({mib[0]:,.0f} MiB plain, {mib[1]:,.0f} MiB)"
            )
    print(f"written: {out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
