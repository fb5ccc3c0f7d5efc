"""Proof that what was switched on did something: which parameters moved, what schedules reached, what was averaged."""

from __future__ import annotations

import json
from typing import Any

import torch

from golf.files import write_atomically
from golf.loop import to_device, training_loss
from golf.models.roles import roles_of
from golf.training.callbacks.base import GolfCallback
from golf.training.toggles import forward_differences

LONGEST_PROBE = 256  # tokens on which techniques are put aside


class LivenessCallback(GolfCallback):
    """Writes liveness.json when training ends: one entry per technique with `alive`, and the numbers that say so."""

    priority = 85

    def __init__(self) -> None:
        self._initial: dict[str, Any] = {}
        self._since: dict[str, dict[str, float]] = {}  # technique -> when it was switched on in this process
        self._phase = 0
        self._qat_difference = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        self._initial = {name: p.detach().to("cpu", copy=True) for name, p in session.net.named_parameters()}

    def on_step_start(self, session: Any, trainer: Any) -> None:
        net = session.net
        if net.phase != self._phase:
            self._phase = net.phase
            self._note(session, "depth")
        if net.quantise and "qat" not in self._since:
            self._note(session, "qat")
            self._qat_difference = compiled_difference(session)

    def _note(self, session: Any, technique: str) -> None:
        progress = session.clock.progress(session.step)
        self._since[technique] = {"step": session.step, "fraction": progress.fraction, "seconds": progress.seconds}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.rank or not session.step:
            return
        entries = self._groups(session) + self._schedules(session) + self._average(session)
        entries += self._parts(session) + self._depth(session) + self._qat(session)
        entries += self._sparsity(session)
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

    def _parts(self, session: Any) -> list[dict[str, Any]]:
        """Every part of the network that can be put aside: how much a logit changes without it."""
        ids_BT = session.stream.batch(0, session.rank, session.world).inputs_BT[:1, :LONGEST_PROBE].to(session.device)
        differences = forward_differences(session.net, ids_BT)
        return [
            {"technique": n, "alive": change > 0, "largest_logit_change": change} for n, change in differences.items()
        ]

    def _depth(self, session: Any) -> list[dict[str, Any]]:
        """A plan with phases has to reach the last one: that is what is exported."""
        last = len(session.net.plan.phases) - 1
        if not last:
            return []
        reached = session.net.phase == last or bool(session.interrupted)
        entry = {"technique": "model.depth (last phase)", "alive": reached, "phase": session.net.phase, "of": last}
        return [entry | ({"since": self._since["depth"]} if "depth" in self._since else {})]

    def _qat(self, session: Any) -> list[dict[str, Any]]:
        """Fake quantisation has to change the training forward, as it is compiled, at the step it is switched on."""
        if session.qat is None:
            return []
        entry = {"technique": "qat", "alive": self._qat_difference > 0 or bool(session.interrupted)}
        entry |= {"loss_change_at_switch": self._qat_difference, "matrices": len(session.qat.formats)}
        return [entry | ({"since": self._since["qat"]} if "qat" in self._since else {})]

    def _sparsity(self, session: Any) -> list[dict[str, Any]]:
        """The zeros that were asked for are in the weights, and most of them were put there."""
        sparsity = session.sparsity
        if sparsity is None:
            return []
        roles = roles_of(session.net)
        before, now = (sparsity.share_of_zeros(state, roles) for state in (self._initial, session.net.state_dict()))
        alive = now >= 0.9 * sparsity.share or bool(session.interrupted)
        entry = {"technique": f"sparsity ({type(sparsity).__name__})", "alive": alive, "zeros": now}
        return [entry | {"zeros_at_start": before, "wanted": sparsity.share}]

    def _average(self, session: Any) -> list[dict[str, Any]]:
        if session.average is None:
            return []
        averaged = session.average.average(session.net)
        differing = sum(not torch.equal(averaged[n], p.detach()) for n, p in session.net.named_parameters())
        name = f"average ({type(session.average).__name__})"
        return [{"technique": name, "alive": differing > 0, "tensors_differing": differing, "tensors": len(averaged)}]


def compiled_difference(session: Any) -> float:
    """Change of a training batch's loss by fake quantisation, in the forward that training runs (compiled or not)."""
    net, stream = session.net, session.stream
    batch = to_device(stream.batch(session.step * session.accumulate, session.rank, session.world), session.device)
    batch = session.schedules.resized(batch, session.rates)
    session.clock.pause()  # a measurement, not training
    losses = []
    for net.quantise in (False, True):
        losses.append(float(training_loss(net, batch, stream).detach()))
    session.clock.start()
    return abs(losses[1] - losses[0])


def _limits(clock: Any) -> tuple[int, float, int]:
    return clock.max_steps, clock.max_seconds, clock.max_tokens
