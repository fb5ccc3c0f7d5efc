"""How fast is this machine at what training does most? Matrix products on every device, and steps against a forecast.

The products take about a second and run on all devices: one that is slower than the others, or far below what its kind
does, is found before it is paid for. Steps are timed by the dry run (golf/doctor/dry_run.py), which knows the network.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from golf.doctor.finding import Line, Subject

SIZE = {"cuda": 8192, "cpu": 1024, "mps": 2048}  # of square matrices
SECONDS = 1.0
SLOWER_THAN_OTHERS = 0.9  # of the median of the devices
SHARE_OF_PEAK = 0.5  # products of this size reach more on every GPU of the table in golf/training/device.py
WHY_SLOW = "a step is as slow as its slowest rank"


def throughput(subject: Subject) -> list[Line]:
    """FLOP/s of each device of the run in its dtype."""
    import torch

    from golf.training.device import peak_flops

    hardware = subject.hardware
    if hardware is None:
        return []
    kind = hardware["accelerator"]
    if kind != "cuda":
        rates = [product_flops(torch.device(kind), hardware)]
        return [Line("ok", "throughput", f"{rates[0] / 1e9:,.0f} GFLOP/s in {hardware['compute_dtype']} products")]
    count = subject.devices if subject.asked else torch.cuda.device_count()
    gpus = [torch.device(kind, index) for index in range(count)]
    rates = [product_flops(gpu, hardware) for gpu in gpus]
    return judged(rates, peak_flops(hardware)) + under_load(subject, gpus, rates)


def under_load(subject: Subject, gpus: list[Any], rates: list[float]) -> list[Line]:
    """What nvidia-smi says of the clocks while every GPU has two seconds of products in its queue."""
    import torch

    from golf.doctor.gpu import read_gpus, slowed, used

    size = SIZE["cuda"]
    for gpu, rate in zip(gpus, rates, strict=True):
        a_NN = torch.randn(size, size, device=gpu).to(torch.bfloat16)
        for _ in range(int(2 * rate / (2 * size**3))):
            _ = a_NN @ a_NN
    seen = used(read_gpus(), subject, os.environ.get("CUDA_VISIBLE_DEVICES"))
    lines = [line for gpu in seen for line in slowed(gpu)]
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
    return lines


def product_flops(device: Any, hardware: dict[str, Any]) -> float:
    """FLOP/s of products of square matrices, the best of some rounds."""
    import torch

    size, dtype = SIZE[device.type], getattr(torch, hardware["compute_dtype"])
    a_NN, b_NN = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, hardware["threads"]))

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    try:
        _ = a_NN @ b_NN
        finish()
        best, until = 0.0, time.perf_counter() + SECONDS
        while not best or time.perf_counter() < until:
            begun = time.perf_counter()
            for _ in range(4):
                _ = a_NN @ b_NN
            finish()
            best = max(best, 4 * 2 * size**3 / (time.perf_counter() - begun))
    finally:
        torch.set_num_threads(threads)
    return best


def judged(rates: list[float], peak: float | None) -> list[Line]:
    """Lines about devices from their FLOP/s and the peak of their kind (None = not known)."""
    middle = statistics.median(rates)
    lines = []
    for index, rate in enumerate(rates):
        share = f", {rate / peak:.0%} of the peak" if peak else ""
        detail = f"{rate / 1e12:,.0f} TFLOP/s{share}"
        other = "use another machine, or leave it out with CUDA_VISIBLE_DEVICES"
        if rate < SLOWER_THAN_OTHERS * middle:
            detail += f", {1 - rate / middle:.0%} less than the others"
            lines.append(Line("fail", f"throughput gpu {index}", detail, other, WHY_SLOW))
        elif peak and rate < SHARE_OF_PEAK * peak:
            why = "it is slower than its kind: capped, shared or hot"
            lines.append(Line("warn", f"throughput gpu {index}", detail, other, why))
        else:
            lines.append(Line("ok", f"throughput gpu {index}", detail))
    return lines


def step_line(measured_ms: float, expected_ms: float | None, source: str, tolerance: float) -> Line:
    """The dry run's steps against what was expected of them."""
    if expected_ms is None:
        todo = "; --step-ms <milliseconds> compares them"
        return Line("ok", "step time", f"{measured_ms:,.1f} ms, nothing to compare it with ({source}){todo}")
    ratio = measured_ms / expected_ms
    detail = f"{measured_ms:,.1f} ms, {ratio - 1:+.0%} against {expected_ms:,.1f} ms ({source})"
    if ratio <= 1 + tolerance:
        return Line("ok", "step time", detail)
    why = f"a budget in seconds would hold {1 - 1 / ratio:.0%} fewer steps"
    todo = "look at gpu and throughput above, use another machine, or accept it with --tolerance"
    return Line("warn", "step time", detail, todo, why)
