"""A toy for the QAT hook point: from half the budget on, the outputs of the MLPs are rounded to a coarse grid."""

from __future__ import annotations

from typing import Any

from golf.progress import Progress


class RoundedMlp:
    """Straight-through rounding to multiples of `grid` once progress reaches `start_fraction`."""

    def __init__(self, grid: float = 0.25, start_fraction: float = 0.5):
        self.grid, self.start_fraction = grid, start_fraction
        self.net: Any = None
        self.formats: dict[str, Any] = {}

    def attach(self, net: Any) -> None:
        self.net = net
        for index, block in enumerate(net.blocks):
            self.formats[f"blocks.{index}.mlp"] = self.grid
            block.mlp.register_forward_hook(self._round)

    def set_progress(self, progress: Progress) -> None:
        self.net.quantise = progress.fraction >= self.start_fraction

    def forwards(self) -> tuple[bool, ...]:
        return False, True

    def _round(self, module: Any, inputs: Any, output: Any) -> Any:
        rounded = (output / self.grid).round() * self.grid
        return output + (rounded - output).detach() if self.net.quantises() else output
