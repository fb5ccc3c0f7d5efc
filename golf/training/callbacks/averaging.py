"""Weight averaging after every optimizer step; what it averages is what the average stage exports."""

from __future__ import annotations

from typing import Any

from golf.loop import settle_average
from golf.training.callbacks.base import GolfCallback


class AveragingCallback(GolfCallback):
    """Feeds the run's `average` (EMA, SWA …), if it has one, and lets it settle when training ends."""

    priority = 20

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.session.average is not None:
            pl_module.session.average.start(pl_module.session.net)

    def on_step_end(self, session: Any, trainer: Any) -> None:
        if session.average is not None:
            progress = session.clock.progress(session.step)
            session.average.update(session.net, progress, session.optimizer.lr_multiplier)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.average is None or session.interrupted or session.clock.interrupted or not session.step:
            return
        session.clock.start()
        told = settle_average(
            session.average,
            session.net,
            session.stream,
            session.device,
            session.rank,
            session.world,
            lambda batch: session.schedules.resized(batch, session.rates),
        )
        session.clock.pause()
        if told:
            session.say(told)
