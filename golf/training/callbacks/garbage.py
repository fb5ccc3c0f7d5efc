"""Python's garbage collector, out of the hot path: it stops all ranks at unequal moments otherwise."""

from __future__ import annotations

import gc
from typing import Any

from golf.training.callbacks.base import GolfCallback


class GarbageCallback(GolfCallback):
    """Before the clock starts: collect, freeze, switch off; collect once per validation; switch on again at the end."""

    priority = 80

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not gc.isenabled():
            gc.collect()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not gc.isenabled():
            gc.unfreeze()
            gc.enable()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")
