"""Warm-up: run real steps once so that everything is compiled and allocated, then put every bit back."""

from __future__ import annotations

import time
from typing import Any

from golf.loop import warm_up
from golf.training.callbacks.base import GolfCallback


class WarmUpCallback(GolfCallback):
    """`steps` training steps before the clock starts; weights, optimizer state and random generators are restored.

    `keep_optimizer_state`: momenta survive, as in the banked records (a known fault of theirs; off by default).
    """

    priority = 1

    def __init__(self, steps: int = 1, keep_optimizer_state: bool = False):
        self.steps, self.keep_optimizer_state = steps, keep_optimizer_state

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if not self.steps or trainer.fast_dev_run:
            return
        begun = time.monotonic()
        compiled = session.config["hardware"]["compile"]
        if compiled:
            session.say("compiling the network (outside the clock; later runs reuse the compiler's cache)")
        stream, device = session.stream, session.device
        warm_up(
            session.net,
            session.optimizer,
            stream,
            self.steps,
            device,
            session.rank,
            session.world,
            session.schedules,
            session.qat,
            self.keep_optimizer_state,
        )
        seconds = time.monotonic() - begun
        session.statistics["warm_up_seconds"] = seconds
        if compiled:
            session.say(f"compiled and warmed up in {seconds:.0f} s")
