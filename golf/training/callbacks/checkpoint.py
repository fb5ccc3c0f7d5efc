"""Checkpoints: at intervals, when interrupted, and when training ends, before anything risky follows.

Rank 0 writes; all ranks come here at the same step (time is read off the shared clock), because an optimizer whose
state is spread over ranks has to collect it.
"""

from __future__ import annotations

from typing import Any

from golf.training.callbacks.base import GolfCallback
from golf.training.checkpointing import save_checkpoint


class CheckpointCallback(GolfCallback):
    """Args:
    every_seconds: seconds of training between checkpoints, 0 = not by time. every_steps: optimizer steps, 0 = never.
    keep: newest checkpoints kept. The clock is paused while writing.
    """

    priority = 60

    def __init__(self, every_seconds: float = 60.0, every_steps: int = 0, keep: int = 2):
        self.every_seconds, self.every_steps, self.keep = every_seconds, every_steps, max(1, keep)
        self._saved_step = -1
        self._next = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._saved_step = pl_module.session.step or -1
        self._next = self._seconds(pl_module.session) + self.every_seconds

    def on_step_end(self, session: Any, trainer: Any) -> None:
        due = self.every_steps and session.step % self.every_steps == 0
        due = due or (self.every_seconds and self._seconds(session) >= self._next)
        if due and not trainer.should_stop:
            self._save(session, trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if not trainer.fast_dev_run:
            self._save(session, trainer, finished=not session.clock.interrupted)

    def _save(self, session: Any, trainer: Any, finished: bool = False) -> None:
        if self._saved_step == session.step and not finished:
            return
        self._saved_step, self._next = session.step, self._seconds(session) + self.every_seconds
        if session.rank:
            session.optimizer.state_dict()  # this rank's share of a collective, where there is one
            return
        session.clock.pause()
        session.flush_metrics()
        save_checkpoint(session, trainer, self.keep, finished)
        if not trainer.should_stop:
            session.clock.start()

    @staticmethod
    def _seconds(session: Any) -> float:
        """Seconds of training that all ranks agree on."""
        return session.clock.progress(session.step).seconds
