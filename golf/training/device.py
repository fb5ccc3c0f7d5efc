"""What a run computes on: the `hardware` group, and how `auto` becomes concrete before anything is built.

Invariant: the resolved values are what is written to the run's config.yaml, so a run says what it ran on, and an
exported file repeats the same arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from golf.errors import UserError


@dataclass(frozen=True)
class Hardware:
    """Devices of a run.

    devices: processes (one per GPU; on a CPU, gloo processes). accelerator: auto | cpu | cuda | mps. compute_dtype:
    auto | bfloat16 | float32. compile: auto | true | false. micro_batch_tokens: most tokens per forward pass and
    device, 0 = what data.spans_per_step gives. threads: CPU threads per process, 0 = cores / devices.
    relative_speed, time_scale, step_scale: how clocks and step counts follow the machine (golf/config/scaling.py).
    rank_timeout_seconds: how long a rank may be silent or stand still (golf/training/heartbeat.py), 0 = for ever.
    supports: the conclusions that runs on it bear.
    """

    devices: int = 1
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    micro_batch_tokens: int = 0
    threads: int = 0
    relative_speed: float | None = None
    time_scale: float = 1.0
    step_scale: float | None = None
    rank_timeout_seconds: float = 120.0
    supports: str = ""


def resolve_hardware(node: dict[str, Any], say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """The same node with every `auto` and 0 replaced by what this machine has; says once what it could not use.

    Raises:
        UserError: an accelerator that is not here, or more devices than there are.
    """
    import torch

    from golf.training.hardware import cpu_preset, usable_cpu_threads

    found = dict(node)
    if found["accelerator"] == "auto":
        found["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
    if found["accelerator"] == "cuda":
        _require_cuda(found["devices"])
        preset = {"compute_dtype": "bfloat16", "compile": True}
    elif found["accelerator"] == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("hardware.accelerator=mps: there is no Metal device here; type hardware=cpu")
        preset = {"compute_dtype": "float32", "compile": False}
    else:
        preset = cpu_preset()
        if preset.get("reason") and found["compile"] == "auto":
            say(preset["reason"])
    if found["compute_dtype"] == "auto":
        found["compute_dtype"] = preset["compute_dtype"]
    if found["compile"] == "auto":
        found["compile"] = bool(preset["compile"])
    if not found["threads"]:
        on_this_node = int(os.environ.get("LOCAL_WORLD_SIZE") or found["devices"])
        found["threads"] = max(1, usable_cpu_threads() // max(1, on_this_node))
    return found


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_cuda(devices: int) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError("hardware.accelerator=cuda: no CUDA device is visible here; type hardware=cpu or hardware=auto")
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    if per_node > torch.cuda.device_count():
        raise UserError(
            f"hardware.devices={devices}: this machine has {torch.cuda.device_count()} GPU; "
            f"type hardware.devices={torch.cuda.device_count()}"
        )


def describe_hardware(node: dict[str, Any]) -> str:
    """One line for logs and summaries: device name × count, dtype, eager or compiled."""
    import platform

    import torch

    if node["accelerator"] == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = f"{_cpu_name() or platform.processor() or platform.machine()}, {node['threads']} threads"
    how = "compiled" if node["compile"] else "eager"
    return f"{node['devices']} x {name}, {node['compute_dtype']} {how}, torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        return ""
    return names[0] if names else ""


def torch_device(node: dict[str, Any]) -> Any:
    """This process' torch device."""
    import torch

    if node["accelerator"] == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device(node["accelerator"])


def peak_flops(node: dict[str, Any]) -> float | None:
    """Dense peak of one device in FLOP/s for the compute dtype, where it is known; for MFU."""
    import torch

    if node["accelerator"] != "cuda" or node["compute_dtype"] != "bfloat16":
        return None
    name = torch.cuda.get_device_name()
    for key, peak in (("H100", 989e12), ("H200", 989e12), ("A100", 312e12), ("4090", 165e12), ("3090", 71e12)):
        if key in name:
            return peak
    return None
