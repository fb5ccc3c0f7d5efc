"""What the running job knows from Hydra: its folder, its overrides, and whether it is one of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One job of train.py, export.py or evaluate.py."""

    folder: Path
    overrides: tuple[str, ...]
    multirun: bool
    config_dirs: tuple[Path, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)  # group -> option

    def fit(self, config: Any) -> list[Any]:
        """Take out, in place, an experiment's keys for options that others were typed for; what was left out."""
        from golf.config.compose import Composer

        return Composer("train", self.config_dirs).fit(config, self.overrides)

    def ablated(self, config: dict[str, Any]) -> dict[str, Any]:
        """The job's resolved config, with a part of its parent where `ablate` names one."""
        from golf.config.ablation import ablated
        from golf.config.compose import Composer

        return ablated(Composer("train", self.config_dirs), config, self.overrides) if config.get("ablate") else config


def current_job() -> Job:
    """The job that Hydra is running in this process."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    folders = tuple(Path(s.path) for s in hydra.runtime.config_sources if s.provider == "command-line" and s.path)
    return Job(
        folder=Path(hydra.runtime.output_dir),
        overrides=tuple(hydra.overrides.task),
        multirun=hydra.mode == RunMode.MULTIRUN,
        config_dirs=folders,
        choices={str(group): str(option) for group, option in hydra.runtime.choices.items()},
    )
