"""Proof that what was switched on did something: which parameters moved, what schedules reached, what was averaged."""

from __future__ import annotations

import json
from typing import Any

import torch

from golf.files import write_atomically
from golf.training.callbacks.base import GolfCallback


class LivenessCallback(GolfCallback):
    """Writes liveness.json when training ends: one entry per technique with `alive`, and the numbers that say so."""

    priority = 85

    def __init__(self) -> None:
        self._initial: dict[str, Any] = {}
        self._lr: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        self._initial = {name: p.detach().to("cpu", copy=True) for name, p in session.net.named_parameters()}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.rank or not session.step:
            return
        entries = self._groups(session) + self._schedules(session) + self._average(session)
        write_atomically(session.folder / "liveness.json", json.dumps({"schema": 1, "techniques": entries}, indent=1))
        dead = [entry["technique"] for entry in entries if not entry["alive"]]
        if dead and not trainer.fast_dev_run:
            session.say(f"switched on, but without effect in this run: {', '.join(dead)} (see liveness.json)")

    def _groups(self, session: Any) -> list[dict[str, Any]]:
        """Per optimizer group: how many tensors moved since this process started training."""
        current = dict(session.net.named_parameters())
        found = []
        for group in session.optimizer.param_groups:
            moved = [n for n in group["names"] if not torch.equal(current[n].detach().cpu(), self._initial[n])]
            still = sorted(set(group["names"]) - set(moved))
            entry = {"technique": f"optim.{group['group']} ({group['rule']})", "alive": not still, "moved": len(moved)}
            found.append({**entry, "tensors": len(group["names"]), "unmoved": still[:8]})
        return found

    def _schedules(self, session: Any) -> list[dict[str, Any]]:
        """Each value at the end (rates: of the last step) against the start: a warmdown that never came shows here."""
        progress = session.clock.progress(session.step)
        first = session.schedules.values(type(progress)(0, 0.0, 0, *_limits(session.clock)))
        last = {**session.schedules.values(progress), "lr": session.optimizer.lr_multiplier}
        entries = []
        for name, value in last.items():
            kind = type(getattr(session.schedules, name)).__name__
            alive = kind == "Constant" or abs(value - first[name]) > 1e-6 or bool(session.interrupted)
            technique = f"schedule.{name} ({kind})"
            entries.append({"technique": technique, "alive": alive, "first": first[name], "last": value})
        return entries

    def _average(self, session: Any) -> list[dict[str, Any]]:
        if session.average is None:
            return []
        averaged = session.average.average(session.net)
        differing = sum(not torch.equal(averaged[n], p.detach()) for n, p in session.net.named_parameters())
        name = f"average ({type(session.average).__name__})"
        return [{"technique": name, "alive": differing > 0, "tensors_differing": differing, "tensors": len(averaged)}]


def _limits(clock: Any) -> tuple[int, float, int]:
    return clock.max_steps, clock.max_seconds, clock.max_tokens
