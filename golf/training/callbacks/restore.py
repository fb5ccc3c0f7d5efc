"""Puts a checkpoint back before any other callback looks, and after the warm-up, which uses the optimizer."""

from __future__ import annotations

from typing import Any

from golf.training.callbacks.base import GolfCallback
from golf.training.checkpointing import restore


class RestoreCallback(GolfCallback):
    """Part of every run that goes on from a checkpoint, whatever the `callbacks` group says."""

    priority = 5

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.restored is not None:
            restore(session, trainer, session.restored)
            session.restored = None
