"""Weight averaging after every optimizer step; what it averages is what the average stage exports."""

from __future__ import annotations

from typing import Any

from golf.training.callbacks.base import GolfCallback


class AveragingCallback(GolfCallback):
    """Feeds the run's `average` (EMA, SWA), if it has one."""

    priority = 20

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.session.average is not None:
            pl_module.session.average.start(pl_module.session.net)

    def on_step_end(self, session: Any, trainer: Any) -> None:
        if session.average is not None:
            progress = session.clock.progress(session.step)
            session.average.update(session.net, progress, session.optimizer.lr_multiplier)
