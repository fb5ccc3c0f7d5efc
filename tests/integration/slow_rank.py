"""A rank that hangs: what a stuck disk or a livelock looks like to the others."""

from __future__ import annotations

import time

from lightning.pytorch import Callback


class SlowRank(Callback):
    """Args:
    rank: it. after: optimizer steps that it still does. seconds: how long it then stands still.
    """

    def __init__(self, rank: int = 1, after: int = 3, seconds: float = 600.0):
        self.rank, self.after, self.seconds = rank, after, seconds

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.session.rank == self.rank and pl_module.session.step == self.after:
            time.sleep(self.seconds)
