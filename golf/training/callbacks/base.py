"""What golf's callbacks share: the session, an explicit order, and steps instead of micro-batches.

Lightning calls six hooks of every callback for every micro-batch and wraps each call for its profiler, whether the hook
does anything or not. So all of golf's callbacks go to it as one, `Together`, which calls only what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lightning.pytorch import Callback, Trainer

from golf.training.session import Session

ONCE = (
    *("setup", "teardown", "on_exception", "on_fit_start", "on_train_start", "on_train_end"),
    *("on_validation_start", "on_validation_end"),
)


class GolfCallback(Callback):
    """Callbacks run in ascending `priority`: 10 budget, 20 averaging, 30 QAT, 40 metrics, 60 checkpoint …

    Of Lightning's hooks they have those in `ONCE`, which are not called for every batch.
    """

    priority: ClassVar[int] = 90

    def on_step_start(self, session: Session, trainer: Trainer) -> None:
        """Before the first micro-batch of an optimizer step."""

    def on_step_end(self, session: Session, trainer: Trainer) -> None:
        """After an optimizer step; `session.step` already counts it (the budget, which comes first, has counted)."""


class Together(Callback):
    """Golf's callbacks as one callback of Lightning's, in the order of their priority."""

    def __init__(self, callbacks: Sequence[GolfCallback]):
        self.callbacks = sorted(callbacks, key=lambda callback: callback.priority)
        self._starts, self._ends = self._having("on_step_start"), self._having("on_step_end")
        for hook in ONCE:
            setattr(self, hook, self._all(self._having(hook)))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            for start in self._starts:
                start(pl_module.session, trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            for end in self._ends:
                end(pl_module.session, trainer)

    def _having(self, hook: str) -> list[Callable[..., None]]:
        """The hook of every callback that has one of its own."""
        own = (callback for callback in self.callbacks if getattr(type(callback), hook) is not _default(hook))
        return [getattr(callback, hook) for callback in own]

    @staticmethod
    def _all(hooks: list[Callable[..., None]]) -> Callable[..., None]:
        def call(*arguments: Any, **named: Any) -> None:
            for hook in hooks:
                hook(*arguments, **named)

        return call


def _default(hook: str) -> Any:
    return getattr(GolfCallback, hook)
