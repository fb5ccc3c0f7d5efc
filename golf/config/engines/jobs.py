"""What all launchers of golf do alike: jobs that are finished are not started, those that die are recorded as failed.

A launcher only says how `execute` gets into a process and what came back. Invariant: one return per job, in their
order, each with a finite objective or none; nothing a job does raises in the sweep's own process.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from golf.config import resolvers
from golf.config.engines import registry
from golf.config.engines.records import WORST, finished, write_record

GRACE_SECONDS = 30  # for the checkpoints of jobs under way, when the sweep is stopped


@dataclass(frozen=True)
class Job:
    """One job of the sweep and where it belongs."""

    number: int
    overrides: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Task:
    """All that another process needs to run a job; everything in it can be pickled."""

    context: HydraContext
    config: DictConfig
    function: TaskFunction
    singletons: Any

    def __call__(self, number: int, overrides: Sequence[str], job_id: str) -> Any:
        """Runs a job in this process; returns its objective."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.singleton import Singleton
        from hydra.core.utils import run_job

        setup_globals()
        Singleton.set_state(self.singletons)
        resolvers.register()
        registry.register()
        composed = configured(self.context, self.config, number, overrides, job_id)
        HydraConfig.instance().set_config(composed)
        done = run_job(
            hydra_context=self.context,
            config=composed,
            task_function=self.function,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return done.return_value


def configured(
    context: HydraContext, config: DictConfig, number: int, overrides: Sequence[str], job_id: str
) -> DictConfig:
    """The composed config of one job."""
    composed = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = job_id
        composed.hydra.job.num = number
    return composed


class JobLauncher(Launcher):
    """Base of golf's launchers; the settings are the keys of its YAML file."""

    def __init__(self, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.function, self.config = hydra_context, task_function, config

    @abstractmethod
    def results(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any, str]]:
        """Runs the jobs; yields each with its objective, and why its process died where it did."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra.core.singleton import Singleton

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        jobs = [self._job(initial_job_idx + index, overrides) for index, overrides in enumerate(job_overrides)]
        outcomes: dict[int, Any] = {}
        for job in jobs:
            record = finished(job.folder, job.overrides)
            if record is not None:
                say(job, "is finished already")
                outcomes[job.number] = record["objective"]
        task = Task(self.context, self.config, self.function, Singleton.get_state())
        left = [job for job in jobs if job.number not in outcomes]
        for job, outcome, death in self.results(task, left) if left else ():
            if death:
                say(job, death)
                write_record(job.folder, job.number, str(self.config.hydra.job.config_name), job.overrides, error=death,
                             exit_code=1)  # fmt: skip
            outcomes[job.number] = WORST if death else outcome
        return [JobReturn(list(job.overrides), status=JobStatus.COMPLETED, _return_value=outcomes[job.number])
                for job in jobs]  # fmt: skip

    def _job(self, number: int, overrides: Sequence[str]) -> Job:
        composed = configured(self.context, self.config, number, overrides, str(number))
        subdir = OmegaConf.select(composed, "hydra.sweep.subdir", default=str(number))
        return Job(number, tuple(overrides), Path(str(self.config.hydra.sweep.dir)) / str(subdir))


def say(job: Job, what: str) -> None:
    """A line about a job, in the sweep's own output."""
    print(f"job {job.number} {what}", flush=True)
