"""The hook point of sparsity-aware training: tells the run's `sparsity`, if it has one, how far training is."""

from __future__ import annotations

from typing import Any

from golf.training.callbacks.base import GolfCallback


class SparsityCallback(GolfCallback):
    """Part of every run, whatever the `callbacks` group says: what changes weights is part of training.

    Attaches after warm-up and restoring. Says so when pruning begins and when the last zeros are there.
    """

    priority = 15

    def __init__(self) -> None:
        self._said = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.sparsity is not None:
            session.sparsity.attach(session.net, session.optimizer)

    def on_step_start(self, session: Any, trainer: Any) -> None:
        if session.sparsity is None:
            return
        progress = session.clock.progress(session.step)
        session.sparsity.set_progress(progress)
        wanted = session.sparsity.share_at(progress)
        if wanted != self._said and (not self._said or wanted == session.sparsity.share):
            what = "all zeros are there" if wanted == session.sparsity.share else "pruning begins"
            session.say(
                f"step {session.step}: {what}, {wanted:.1%} of each of {len(session.sparsity.weights)} matrices"
            )
            self._said = wanted
