"""Data parallel training without the habits of the stock strategy that cost time on every step.

1. The network is not wrapped. A reducer's hooks could not overlap anything here, because one compiled backward hands
   out all gradients at its end; they fail where a parameter gets no gradient in some phase of training; and they would
   reduce what the optimizer scatters itself. Gradients are averaged after the last micro-step by the reference loop's
   own function, so that both paths have the same bits.
2. With several ranks Lightning's training loop broadcasts a "was there a SIGTERM" tensor and reads it before every
   batch, and its signal handler broadcasts another, wherever the rank happens to be. Here the request to stop travels
   with the budget clock's rare sync points instead (see `InterruptibleClock`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from golf.loop import average_gradients


class GolfDDP(DDPStrategy):
    """One process per device, the same weights everywhere, means of gradients; buffers are never broadcast."""

    def __init__(self, backend: str, timeout_seconds: float = 600.0):
        super().__init__(process_group_backend=backend, timeout=timedelta(seconds=timeout_seconds))

    def configure_ddp(self) -> None:
        """Instead of wrapping the module: give every rank the weights of the first."""
        assert self.model is not None
        with torch.no_grad():
            for parameter in self.model.parameters():
                dist.broadcast(parameter.data, src=0)

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **arguments: Any) -> Any:
        """The step, with gradients averaged once the last micro-step's are there."""

        def closure_and_average() -> Any:
            loss = closure()
            module.session.waiting = True
            average_gradients(module.net, optimizer, self.world_size)
            return loss

        module: Any = self.lightning_module
        done = super().optimizer_step(optimizer, closure_and_average, model, **arguments)
        module.session.waiting = False
        return done


def remove_sigterm_broadcast() -> None:
    """Replace both broadcasts about SIGTERM (the only change golf makes to Lightning's own classes)."""

    def no_broadcast(self: Any, *signal: Any) -> None:
        return None

    for owner, name in ((_TrainingEpochLoop, "_broadcast_sigterm_tensor"), (_SignalConnector, "_sigterm_notifier_fn")):
        if not hasattr(owner, name):
            raise RuntimeError(f"Lightning no longer has {owner.__name__}.{name}: drop its replacement")
        setattr(owner, name, no_broadcast)
