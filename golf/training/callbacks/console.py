"""Progress for people: one plain line at a time, with the predicted number of steps and the time it will be done."""

from __future__ import annotations

import time
from typing import Any

from golf.training.callbacks.base import GolfCallback


class ConsoleCallback(GolfCallback):
    """Says a line after the first step and then at most every `every_seconds`; nothing is ever redrawn."""

    priority = 50

    def __init__(self, every_seconds: float = 5.0):
        self.every_seconds = every_seconds
        self._next = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        limits = session.clock
        parts = [
            f"{limits.max_steps:,} steps" if limits.max_steps else "",
            f"{limits.max_tokens:,} tokens" if limits.max_tokens else "",
            f"{limits.max_seconds:,.0f} s" if limits.max_seconds else "",
        ]
        parameters = sum(p.numel() for p in session.net.parameters())
        since = f" from step {session.step}" if session.step else ""
        until = " or ".join(filter(None, parts)) or "stopped"
        per_step = session.stream.tokens_per_step
        session.say(f"training {parameters:,} parameters, {per_step:,} tokens per step{since}, until {until}")
        self._next = time.monotonic() + min(self.every_seconds, 2.0)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        for callback in trainer.callbacks:
            if getattr(callback, "stopped_epoch", 0) or getattr(callback, "stopping_reason_message", None):
                reason = " ".join(str(getattr(callback, "stopping_reason_message", None) or "").split())
                name, session = type(callback).__name__, pl_module.session
                session.say(f"{name} ended training after step {session.step}" + (f": {reason}" if reason else ""))

    def on_step_end(self, session: Any, trainer: Any) -> None:
        now = time.monotonic()
        if session.rank != 0 or (now < self._next and not trainer.should_stop):
            return
        self._next = now + self.every_seconds
        session.say(progress_line(session))


def progress_line(session: Any) -> str:
    """`step 120/~790 (15 %)  loss 3.2105  lr x0.82  14.2 k tokens/s  18 s, done in about 101 s`."""
    last = session.statistics.get("last", {})
    clock = session.clock
    total, seconds = clock.predicted_steps(session.step), clock.read()
    about = "~" if clock.max_seconds else ""
    head = f"step {session.step}/{about}{total}" if total else f"step {session.step}"
    fraction = clock.progress(session.step).fraction
    pieces = [f"{head} ({fraction:.0%})" if total else head]
    if "train/loss" in last:
        pieces += [f"loss {last['train/loss']:.4f}", f"lr x{last['lr']:.2f}"]
        pieces.append(f"{last['tokens_per_second'] / 1e3:,.1f} k tokens/s")
    left = max(0.0, seconds / session.step * (total - session.step)) if total and session.step else None
    pieces.append(f"{seconds:.0f} s" + (f", done in about {left:.0f} s" if left else ""))
    return "  ".join(pieces)
