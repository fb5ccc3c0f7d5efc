"""Metrics: losses gathered on the device, read once every N steps, one step late, and written to every logger."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from golf.training.callbacks.base import GolfCallback
from golf.training.energy import energy_joules
from golf.training.flops import training_flops_per_token

FIRST_STEPS = 10  # always logged one by one: a run can be compared with its exported file from its first steps


class ThroughputCallback(GolfCallback):
    """Logs train/loss, rates, tokens/s, step_ms and (where the device's peak is known) mfu; keeps step percentiles.

    On a GPU a step's milliseconds are the mean of the interval between two reads, because the host runs ahead.
    """

    priority = 40

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None
        self._durations_ms: list[float] = []
        self._last = (0, 0.0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        self.session, self.trainer = session, trainer
        session.flush_metrics = self.flush
        self._every = session.config["trainer"]["log_every_steps"]
        self._flops_per_token = training_flops_per_token(session.net, session.stream.seq_len)
        self._durations_ms = session.statistics.setdefault("step_ms", [])  # the same list: every checkpoint has it
        self._interval_begun, self._last_time = (session.step, session.clock.read()), session.clock.read()
        self._joules = energy_joules(session.device)

    def on_step_end(self, session: Any, trainer: Any) -> None:
        now = session.clock.read()
        self.flush()
        if session.device.type != "cuda":
            self._durations_ms.append((now - self._last_time) * 1e3)
        self._last_time = now
        if session.step % self._every == 0 or session.step <= FIRST_STEPS or trainer.should_stop:
            self._gather(session, now)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        session = pl_module.session
        if session.validation:
            progress = {
                "seconds": round(session.clock.read(), 3),
                "tokens": session.step * session.stream.tokens_per_step,
            }
            self._write({**progress, **session.validation})
            session.validation = {}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.flush()
        self._summarise(pl_module.session)

    def _gather(self, session: Any, now: float) -> None:
        """Start moving this interval's loss to the host; it is read at the next step."""
        loss = session.meter.take_mean()
        if loss is None:
            return
        if session.world > 1:  # all ranks are here at the same step; between these steps nothing is communicated
            dist.all_reduce(loss)
            loss /= session.world
        first, begun = self._interval_begun
        step_seconds = (now - begun) / max(session.step - first, 1)
        if session.device.type == "cuda":
            self._durations_ms.append(step_seconds * 1e3)
        self._interval_begun = (session.step, now)
        progress = session.clock.progress(session.step - 1) if session.step else None
        tokens_per_second = session.stream.tokens_per_step / max(step_seconds, 1e-9)
        values = {
            "step": session.step,
            "seconds": round(now, 3),
            "tokens": session.step * session.stream.tokens_per_step,
            "train/loss": loss.to("cpu", non_blocking=True),
            **session.schedules.values(progress),
            "tokens_per_second": round(tokens_per_second, 1),
            "step_ms": round(step_seconds * 1e3, 3),
        }
        peak = session.statistics.get("peak_flops")
        if peak:
            values["mfu"] = self._flops_per_token * tokens_per_second / (peak * session.world)
        self._pending = values
        if trainer_is_stopping(self.trainer):
            self.flush()

    def flush(self) -> None:
        """Write the line that is pending."""
        if self._pending is not None:
            if self.session.device.type == "cuda":
                import torch

                torch.cuda.current_stream().synchronize()
            values, self._pending = self._pending, None
            values["train/loss"] = float(values["train/loss"])
            self._write(values)
            self.session.statistics["last"] = values

    def _write(self, values: dict[str, Any]) -> None:
        if self.session.rank == 0:
            for logger in self.trainer.loggers:
                logger.log_metrics(dict(values), step=int(values["step"]))

    def _summarise(self, session: Any) -> None:
        ordered = sorted(self._durations_ms)
        statistics = session.statistics
        if ordered:
            statistics["step_ms_p50"] = ordered[len(ordered) // 2]
            statistics["step_ms_p99"] = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        seconds = session.clock.read()
        tokens = session.step * session.stream.tokens_per_step
        statistics.update(train_seconds=seconds, steps=session.step, train_tokens=tokens)
        statistics["flops"] = self._flops_per_token * tokens
        used = energy_joules(session.device)
        if used is not None and self._joules is not None:
            # Of rank 0's GPU: the ranks do the same work.
            statistics["joules"] = statistics.get("joules", 0.0) + (used - self._joules) * session.world
        if seconds:
            statistics["tokens_per_second"] = tokens / seconds
            if statistics.get("peak_flops"):
                statistics["mfu"] = statistics["flops"] / seconds / (statistics["peak_flops"] * session.world)


def trainer_is_stopping(trainer: Any) -> bool:
    return bool(trainer.should_stop)
