"""Well-known Trainer flags whose job another group does, and the override that does what was meant."""

from __future__ import annotations

from typing import NamedTuple


class Moved(NamedTuple):
    """Why a well-known key is refused, and which override does what was meant."""

    reason: str
    instead: str

    def line(self, path: str, value: object) -> str:
        """The refusal of `path=value`, with the value carried over where it means the same."""
        same = isinstance(value, int | float) and not isinstance(value, bool)
        instead = self.instead.replace("<N>", f"{value}") if same else self.instead
        return f"{path}={value}: {self.reason}; type {instead}"


MOVED: dict[str, Moved] = {
    "trainer.devices": Moved("devices are started by golf, one process each", "hardware.devices=<N>"),
    "trainer.num_nodes": Moved("nodes are torchrun's own argument", "torchrun --nnodes=<N> … train.py …"),
    "trainer.strategy": Moved("the strategy follows from the devices", "hardware.devices=<N>"),
    "trainer.accelerator": Moved("the device is chosen by the hardware group", "hardware=<option>"),
    "trainer.precision": Moved("weights are float32, activations the model's dtype", "model.compute_dtype=bfloat16"),
    "trainer.max_time": Moved("training time has one clock", "budget.max_seconds=<seconds>"),
    "trainer.max_steps": Moved("steps have one limit", "budget.max_steps=<N>"),
    "trainer.max_epochs": Moved("the token stream is endless; a run ends by its budget", "budget.max_steps=<steps>"),
    "trainer.min_steps": Moved("a run ends by its budget", "budget.max_steps=<N>"),
    "trainer.min_epochs": Moved("a run ends by its budget", "budget.max_steps=<N>"),
    "trainer.accumulate_grad_batches": Moved(
        "accumulation follows from the tokens of a step and the devices", "data.tokens_per_step=<tokens>"
    ),
    "trainer.gradient_clip_val": Moved("clipping belongs to the optimizer", "optim.clip_norm=<value>"),
    "trainer.gradient_clip_algorithm": Moved("clipping belongs to the optimizer", "optim.clip_norm=<value>"),
    "trainer.callbacks": Moved(
        "callbacks are a group of nodes", "callbacks=<option> or +callbacks.<name>._target_=<class>"
    ),
    "trainer.logger": Moved("loggers are a group of nodes", "logger=<option>"),
}
