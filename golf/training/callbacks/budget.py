"""Drives the run from the one clock: rates before each step, the step count after it, and the predictive stop."""

from __future__ import annotations

import signal
from typing import Any

from golf.signals import handle_stop
from golf.training.callbacks.base import GolfCallback
from golf.training.target import begin_target, check_target, conclude_target


class BudgetCallback(GolfCallback):
    """Starts the clock when training starts (after warm-up and restoring), pauses it during validation."""

    priority = 10

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        # Lightning has put its own handler on SIGTERM by now, and puts back what was there before when it is done.
        handle_stop(session.interrupt)
        begin_target(session)
        if session.clock.should_stop(session.step):  # a resumed run that had used up its budget
            trainer.should_stop = True

    def on_step_start(self, session: Any, trainer: Any) -> None:
        session.clock.start()
        progress = session.clock.progress(session.step)
        session.rates = session.schedules.apply(progress, session.optimizer)
        session.net.set_progress(progress)

    def on_step_end(self, session: Any, trainer: Any) -> None:
        session.step += 1
        if session.clock.should_stop(session.step):
            trainer.should_stop = True
            if session.clock.interrupted:
                session.interrupted = session.interrupted or signal.SIGTERM
                trainer.limit_val_batches = 0  # nobody waits for a validation that was asked to stop

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.session.clock.pause()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.training or trainer.state.fn == "fit":
            if check_target(pl_module.session):
                trainer.should_stop = True
            pl_module.session.clock.start()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.session.clock.pause()
        conclude_target(pl_module.session)
