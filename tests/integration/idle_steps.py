"""Watches training steps at which nothing is logged, validated or agreed on: what they communicate and read back."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import torch

READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
FIRST, LAST = 13, 15  # between the clock's sync points at steps 12 and 20, after the first ten, which are logged


def watch(output: Path) -> None:
    """Patch the callback that frames every step; writes a JSON object when training ends."""
    from golf.training.callbacks.budget import BudgetCallback

    begin, end = BudgetCallback.on_step_start, BudgetCallback.on_step_end
    finish = BudgetCallback.on_train_end
    reads: list[str] = []
    watching: list[torch.profiler.profile] = []
    collectives: dict[str, int] = {}

    def step_start(self: Any, session: Any, trainer: Any) -> None:
        if session.step == FIRST and session.clock.max_steps and not watching and not collectives:
            watching.append(torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]))
            watching[0].start()
        begin(self, session, trainer)

    def step_end(self: Any, session: Any, trainer: Any) -> None:
        end(self, session, trainer)
        if session.step == LAST and watching:
            profile = watching.pop()
            profile.stop()
            for event in profile.profiler.kineto_results.events():
                if event.name().startswith("c10d::"):
                    collectives[event.name()] = collectives.get(event.name(), 0) + 1
            collectives.setdefault("none", 0)

    def train_end(self: Any, trainer: Any, module: Any) -> None:
        finish(self, trainer, module)
        found = {"step": module.session.step, "collectives": collectives, "reads": reads, "steps": LAST - FIRST}
        output.write_text(json.dumps(found))

    def spy(name: str) -> None:
        original = getattr(torch.Tensor, name)

        def called(tensor: torch.Tensor, *rest: Any, **options: Any) -> Any:
            if watching:
                frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_stack(limit=4)[:-1]]
                reads.append(f"{name} from {' > '.join(frames)}")
            return original(tensor, *rest, **options)

        setattr(torch.Tensor, name, called)

    for name in READING:
        spy(name)
    BudgetCallback.on_step_start = step_start
    BudgetCallback.on_step_end = step_end
    BudgetCallback.on_train_end = train_end
