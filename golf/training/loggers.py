"""Loggers: a JSON-lines file that is always written, and factories for Weights & Biases and TensorBoard.

All of them take metrics through Lightning's Logger interface; in W&B the step is a metric of its own.
"""

from __future__ import annotations

import json
import secrets
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment

from golf.errors import UserError
from golf.files import disk_error, write_atomically
from golf.runs.library import entry_hash
from golf.training.login import require_login, wandb_mode
from golf.training.wandb_record import figures, log_summary, model_of


class JsonLinesLogger(Logger):
    """Appends one JSON object per call to `metrics.jsonl`; each line is whole or absent."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Of the first logger's name and version Lightning makes the folder of its own checkpoints."""
        return "lightning"

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        return self.path

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is config.yaml; nothing to write here."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step is not None:
            metrics = {"step": step, **metrics}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise disk_error(error, self.path) from error


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
    """Weights & Biases; `log_model` uploads the packed artifact at the end, `group` null is the sweep a job belongs to.

    The hash that all seeds of a configuration share is logged as `entry`, to group by.
    A run that is resumed goes on in the W&B run that it began: its id is kept in the run folder.

    Raises:
        UserError: online without a login, or W&B refuses.
    """
    require_login({"wandb": {"_target_": "golf.training.loggers.wandb_logger", "offline": offline}})
    from lightning.pytorch.loggers import WandbLogger

    config = config or {}
    entry = {"entry": entry_hash(config)} if config else {}
    run = begin_wandb(folder, name, {**config, **entry}, kept_id(folder), project, group, tags, offline)
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    logger = WandbLogger(experiment=run)
    logger.log_model_at_end = log_model  # pyright: ignore[reportAttributeAccessIssue]
    return logger


def begin_wandb(
    folder: Path | None,
    name: str | None,
    config: dict[str, Any],
    run_id: str | None,
    project: str = "golf",
    group: str | None = None,
    tags: list[str] | None = None,
    offline: bool = False,
    job_type: str = "train",
) -> Any:
    """An open W&B run, new or continued by its id.

    Raises:
        UserError: W&B refuses.
    """
    import wandb

    if wandb.run is not None:  # left by a job of this process that failed: its run is over
        wandb.finish(exit_code=1)
    try:
        return wandb.init(
            project=project,
            group=group or _sweep_of(folder),
            job_type=job_type,
            tags=tags or [],
            dir=folder,
            name=name,
            id=run_id,
            resume="allow",
            config=config,
            mode=wandb_mode(offline),  # pyright: ignore[reportArgumentType]
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"W&B refuses ({reason}): type wandb login --relogin, or logger=wandb_offline") from error


def _sweep_of(folder: Path | None) -> str | None:
    """Name of the multirun a run folder lies in, None for a single run."""
    parent = folder.resolve().parent.name if folder is not None else ""
    return parent if parent.startswith("multirun_") else None


def kept_id(folder: Path | None) -> str | None:
    """The id of this run folder's W&B run, chosen the first time."""
    if folder is None:
        return None
    path = folder / "wandb" / "id"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8")


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


def finish_loggers(
    loggers: list[Any],
    summary: dict[str, Any],
    artifact: Path | None,
    sensitivity: dict[str, list[dict[str, Any]]] | None = None,
) -> None:
    """Hand ladder, sizes and the packed artifact to the loggers that keep such things, then close them.

    `summary`: of summary.json, {} for none. `sensitivity`: lines of the table of sensitivities
    (golf/quant/sensitivity.py) by export, for W&B. Called while an error is on its way, it closes the W&B run as
    failed.
    """
    failed = sys.exc_info()[0] is not None
    values = {name: value for name, value in figures(summary).items() if name.startswith("ladder/")}
    for logger in loggers:
        if type(logger).__name__ == "WandbLogger":
            log_summary(logger.experiment, summary, sensitivity or {})
            if artifact is not None and getattr(logger, "log_model_at_end", False):
                logger.experiment.log_artifact(model_of(logger.experiment.id, artifact))
        elif type(logger).__name__ == "TensorBoardLogger":
            if values:
                logger.log_metrics(values, step=0)
            logger.finalize("failed" if failed else "success")
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=int(failed))
