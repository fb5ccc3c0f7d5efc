"""Energy of a training run where the GPUs count it themselves (NVML, through the optional package nvidia-ml-py)."""

from __future__ import annotations

from typing import Any


def energy_joules(device: Any) -> float | None:
    """Joules this process' GPU has used since its driver was loaded; None on other devices, or without NVML."""
    if device.type != "cuda":
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        import torch

        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except Exception:  # no package, no NVML, a GPU that does not count: the field says None
        return None
