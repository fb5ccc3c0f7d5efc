"""Size during training: what the weights would come to if they were quantised and packed now, logged as size/….

Quantised without calibration (GPTQ rounds to nearest), each section compressed in part (golf/size/sample.py); the
average of the weights is taken where the run has one. A measurement, not training: the clock is paused.
"""

from __future__ import annotations

from typing import Any

import torch

from golf.config.build import build
from golf.errors import UserError
from golf.models.exported import exported_network, exported_state
from golf.models.roles import roles_of
from golf.size.sample import ANY_TOKENIZER, forecast_artifact
from golf.training.callbacks.base import GolfCallback


class SizeForecastCallback(GolfCallback):
    """Args:
    every_steps: optimizer steps between forecasts; 0 = never.
    sample_bytes: of each section that are compressed; null = all, so that each forecast packs the weights in memory.

    Raises:
        UserError: a negative number.
    """

    priority = 50

    def __init__(self, every_steps: int = 500, sample_bytes: int | None = 1 << 18):
        if every_steps < 0 or (sample_bytes is not None and sample_bytes < 1):
            raise UserError(
                f"callbacks.size_forecast: every_steps={every_steps} sample_bytes={sample_bytes} must be positive: "
                "type callbacks.size_forecast.every_steps=500"
            )
        self.every_steps, self.sample_bytes = every_steps, sample_bytes

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        config = pl_module.session.config
        self._plan, self._codec = build(config["quant"]), build(config["codec"])
        self._limit, self._warned = config["budget"]["limit_bytes"], False

    def on_step_end(self, session: Any, trainer: Any) -> None:
        if not self.every_steps or session.step % self.every_steps:
            return
        session.clock.pause()
        if session.rank == 0:
            self._log(session, trainer)
        if not trainer.should_stop:
            session.clock.start()

    def _log(self, session: Any, trainer: Any) -> None:
        session.flush_metrics()
        net = session.net
        state = net.state_dict() if session.average is None else session.averaged()
        with torch.no_grad():
            weights = {name: tensor.detach().cpu() for name, tensor in exported_state(net, state).items()}
            try:
                quantised = self._plan.quantise(weights, roles_of(net))
            except UserError as error:  # weights that are not finite: a measurement does not end a training
                session.say(f"size: no forecast at step {session.step}: {error}")
                return
        network = exported_network(session.config["model"])
        found = forecast_artifact(quantised, network, ANY_TOKENIZER, self._codec, self.sample_bytes)
        values = {"size/artifact_bytes": found.total, "size/of_limit": round(found.total / self._limit, 5)}
        values |= {f"size/{name}": size for name, size in found.sizes.items()}
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step=session.step)
        if found.total > self._limit and not self._warned:
            self._warned = True
            session.say(
                f"size: the weights of step {session.step} would take {found.total:,} bytes, the limit is "
                f"{self._limit:,} with code; see quant and codec, or export.py run={session.folder} fit.margin_bytes=0"
            )
