"""What golf's callbacks share: the session, an explicit order, and the difference between a batch and a step."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer

from golf.training.session import Session


class GolfCallback(Callback):
    """Callbacks run in ascending `priority`: 10 budget, 20 averaging, 30 QAT, 40 metrics, 60 checkpoint …"""

    priority: ClassVar[int] = 90

    def on_step_end(self, session: Session, trainer: Trainer) -> None:
        """After an optimizer step (not after every micro-batch); `session.step` already counts it."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        session: Any = pl_module.session
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.on_step_end(session, trainer)
