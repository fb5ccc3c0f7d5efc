"""Python's garbage collector, out of the hot path: it stops all ranks at unequal moments otherwise."""

from __future__ import annotations

import gc
from typing import Any

from golf.training.callbacks.base import GolfCallback


class GarbageCallback(GolfCallback):
    """After the first step: collect, freeze, switch off; collect once per validation; switch on again at the end."""

    priority = 80

    def __init__(self) -> None:
        self._frozen = False

    def on_step_end(self, session: Any, trainer: Any) -> None:
        if not self._frozen:
            gc.collect()
            gc.freeze()
            gc.disable()
            self._frozen = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._frozen:
            gc.collect()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self._frozen:
            gc.unfreeze()
            gc.enable()
            self._frozen = False
