"""The hook point of quantisation-aware training: tells the run's `qat`, if it has one, how far training is."""

from __future__ import annotations

from typing import Any

from golf.training.callbacks.base import GolfCallback


class QatCallback(GolfCallback):
    """Calls `qat.attach(net)` before training and `qat.set_progress(progress)` before each optimizer step.

    Says so when the network begins to see fake-quantised weights.
    """

    priority = 30

    def __init__(self) -> None:
        self._on = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if pl_module.session.qat is not None:
            pl_module.session.qat.attach(pl_module.session.net)

    def on_step_start(self, session: Any, trainer: Any) -> None:
        if session.qat is None:
            return
        session.qat.set_progress(session.clock.progress(session.step))
        is_on = bool(getattr(session.net, "quantise", False))
        if is_on and not self._on:
            session.say(f"step {session.step}: {len(session.qat.formats)} matrices are fake-quantised from here on")
        self._on = is_on
