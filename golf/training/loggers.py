"""Loggers: a JSON-lines file that is always written, and factories for Weights & Biases and TensorBoard.

All of them take metrics through Lightning's Logger interface; in W&B the step is a metric of its own.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment

from golf.errors import UserError


class JsonLinesLogger(Logger):
    """Appends one JSON object per call to `metrics.jsonl`; each line is whole or absent."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return "0"

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        return self.path

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is config.yaml; nothing to write here."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step is not None:
            metrics = {"step": step, **metrics}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")


def cut_metrics(path: Path, last_step: int) -> None:
    """Drop lines after `last_step` and a torn last line: what was logged beyond the checkpoint is done again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    from golf.files import write_atomically

    write_atomically(path, "".join(line + "\n" for line in kept))


def wandb_logger(
    project: str = "golf",
    group: str | None = None,
    tags: list[str] | None = None,
    offline: bool = False,
    log_model: bool = True,
    folder: Path | None = None,
    name: str | None = None,
    config: dict[str, Any] | None = None,
) -> Logger:
    """Weights & Biases; `log_model` uploads the packed artifact at the end.

    Raises:
        UserError: online without a login.
    """
    offline = offline or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun")
    if not offline and not _has_login():
        raise UserError("W&B has no login here: type `wandb login`, or logger=wandb_offline to upload later")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(silent=True, console="off")
    logger = WandbLogger(
        project=project, group=group, tags=tags or [], offline=offline, save_dir=folder, name=name, settings=settings
    )
    logger.experiment.config.update(config or {}, allow_val_change=True)
    logger.experiment.define_metric("step")
    logger.experiment.define_metric("*", step_metric="step")
    logger.log_model_at_end = log_model
    return logger


def tensorboard_logger(
    folder: Path | None = None, name: str | None = None, config: dict[str, Any] | None = None
) -> Logger:
    """TensorBoard event files under <run folder>/tensorboard.

    Raises:
        UserError: the tensorboard package is not installed.
    """
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(save_dir=folder or ".", name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise UserError("logger=tensorboard needs a package: type pip install tensorboard") from error


def _has_login() -> bool:
    """Whether W&B would find an API key, without asking it (which would prompt or use the network)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def finish_loggers(loggers: list[Any], ladder: list[dict[str, Any]], artifact: Path | None) -> None:
    """Hand the ladder and the packed artifact to the loggers that keep such things, then close them."""
    for logger in loggers:
        values = {f"ladder/{rung['stage']}/{key}": rung[key] for rung in ladder for key in ("bpb", "nats_per_token")}
        if type(logger).__name__ == "WandbLogger":
            import wandb

            logger.experiment.summary.update(values)
            if artifact is not None and getattr(logger, "log_model_at_end", False):
                upload = wandb.Artifact(f"model-{logger.experiment.id}", type="model")
                upload.add_file(str(artifact))
                logger.experiment.log_artifact(upload)
            wandb.finish(quiet=True)
        elif type(logger).__name__ == "TensorBoardLogger" and values:
            logger.log_metrics(values, step=0)
            logger.finalize("success")
