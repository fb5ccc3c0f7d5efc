"""DDP without the two habits of the stock strategy that cost time on every step.

1. Lightning builds the wrapper on a side CUDA stream, which leaves gradient accumulation on that stream: one extra
   synchronisation per step, and CUDA graphs fail. Here it is built on the current stream.
2. With several ranks its training loop broadcasts a "was there a SIGTERM" tensor and reads it before every batch, and
   its signal handler broadcasts another, wherever the rank happens to be. Here the request to stop travels with the
   budget clock's rare sync points instead (see `BudgetClock.interrupt`).
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel


class GolfDDP(DDPStrategy):
    """Data parallel training; gradients are views of one communication buffer, buffers are never broadcast."""

    def __init__(self, backend: str, timeout_seconds: float = 600.0):
        super().__init__(
            process_group_backend=backend,
            timeout=timedelta(seconds=timeout_seconds),
            gradient_as_bucket_view=True,
            broadcast_buffers=False,
            find_unused_parameters=False,
            static_graph=False,
        )

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        device_ids: list[int] | None = self.determine_ddp_device_ids()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # torch 2.13 has begun to rename it
            return DistributedDataParallel(module=model, device_ids=device_ids, **self._ddp_kwargs)


def remove_sigterm_broadcast() -> None:
    """Replace both broadcasts about SIGTERM (the only change golf makes to Lightning's own classes)."""

    def no_broadcast(self: Any, *signal: Any) -> None:
        return None

    for owner, name in ((_TrainingEpochLoop, "_broadcast_sigterm_tensor"), (_SignalConnector, "_sigterm_notifier_fn")):
        if not hasattr(owner, name):
            raise RuntimeError(f"Lightning no longer has {owner.__name__}.{name}: drop its replacement")
        setattr(owner, name, no_broadcast)
