"""The fastest way to train on this CPU: which dtype, compiled or eager, how many threads.

Rule (measured by benchmarks/model_cpu.py): bfloat16 where the processor multiplies it natively (AMX, AVX512-BF16, Arm
BF16), float32 elsewhere, because emulated bfloat16 is slower than float32; compiled wherever torch.compile can work.
Invariant: nothing is compiled or run to find out, and torch is imported only for asking the processor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")


def cpu_preset() -> dict[str, Any]:
    """compute_dtype, compile and threads for training here; `reason` says in one line why compile is off, if it is."""
    preset: dict[str, Any] = {
        "compute_dtype": "bfloat16" if native_bfloat16() else "float32",
        "compile": compiler_available(),
        "threads": usable_cpu_threads(),
    }
    if not preset["compile"]:
        preset["reason"] = f"eager mode: {compiler_problem()}"
    return preset


def native_bfloat16() -> bool:
    """True if this processor has instructions for bfloat16 matrix products."""
    capabilities = _processor_capabilities()
    return any(capabilities.get(name) for name in NATIVE_BFLOAT16)


def compiler_available() -> bool:
    """True if torch.compile can build C++ for the CPU here."""
    return compiler_problem() is None


def compiler_problem() -> str | None:
    """What torch.compile lacks on this machine: a compiler where it looks for one, or Python's C headers; else None."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", default)
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}) is installed; install one, or set CXX to its path"
    if sys.platform == "darwin" and not _developer_tools_installed():
        return "the compiler is a placeholder; type xcode-select --install"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"Python's C headers are missing (Python.h); install python{version}-dev or the like"
    return None


def usable_cpu_threads() -> int:
    """Physical cores this process may use: within its affinity and its container's quota."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limits.append(max(1, round(int(quota) / int(period))))  # "max" is not a number: no quota
    if physical := _processor_capabilities().get("num_physical_cores"):
        limits.append(int(physical))
    return max(1, min(limits))


def _processor_capabilities() -> dict[str, Any]:
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    return dict(ask()) if ask is not None else {}


def _developer_tools_installed() -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["xcode-select", "-p"], capture_output=True, timeout=5, check=False).returncode == 0
    return False
