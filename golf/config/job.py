"""What the running job knows from Hydra: its folder, its overrides, and whether it is one of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One job of train.py, export.py or evaluate.py."""

    folder: Path
    overrides: tuple[str, ...]
    multirun: bool


def current_job() -> Job:
    """The job that Hydra is running in this process."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return Job(Path(hydra.runtime.output_dir), tuple(hydra.overrides.task), hydra.mode == RunMode.MULTIRUN)
