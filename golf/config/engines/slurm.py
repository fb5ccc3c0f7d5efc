"""hydra/launcher=submitit_slurm: each job a task of a Slurm job array, through submitit; submitit_local: the same here.

submitit (https://github.com/facebookincubator/submitit) writes the sbatch file into `submitit_folder` and collects the
results from there. A job that Slurm takes away and queues again goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.config.engines.jobs import Job, JobLauncher, Task, say
from golf.errors import UserError

COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
COMMON += ("stderr_to_stdout",)  # parameters of submitit itself; the others are Slurm's
AT_START = ("submitit_folder", "max_num_timeout")


@dataclass
class Submitted:
    """What submitit runs on the other machine; queued again as it is, the job's folder knows how far it came."""

    task: Task

    def __call__(self, number: int, overrides: Sequence[str]) -> Any:
        import submitit

        return self.task(number, overrides, submitit.JobEnvironment().job_id)

    def checkpoint(self, *arguments: Any, **options: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments, **options)


def executor(cluster: str, settings: dict[str, Any]) -> Any:
    """submitit's executor with the settings of the YAML file.

    Raises:
        UserError: not a machine that can submit to Slurm, or a setting that submitit does not take.
    """
    import submitit

    if cluster == "slurm" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no Slurm on this machine (no srun); run it on a login node of the "
            "cluster, or type hydra/launcher=submitit_local"
        )
    first = {"slurm_max_num_timeout": settings["max_num_timeout"]} if "max_num_timeout" in settings else {}
    made = submitit.AutoExecutor(folder=settings["submitit_folder"], cluster=cluster, **first)
    given = {key: value for key, value in settings.items() if key not in AT_START and value is not None}
    try:
        made.update_parameters(**{key if key in COMMON else f"slurm_{key}": value for key, value in given.items()})
    except (NameError, AssertionError, TypeError, ValueError) as error:
        raise UserError(f"hydra.launcher: {' '.join(str(error).split())}") from error
    return made


class SubmititJobs(JobLauncher):
    """The keys are those of submitit; `cluster` is slurm or local."""

    cluster = "slurm"

    def results(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any, str]]:
        made = executor(self.cluster, self.settings)
        columns = [[job.number for job in jobs], [list(job.overrides) for job in jobs]]
        submitted = made.map_array(Submitted(task), *columns)
        print(f"{len(jobs)} jobs submitted: {', '.join(item.job_id for item in submitted)}", flush=True)
        try:
            for job, item in zip(jobs, submitted):
                yield self._result(job, item)
        except BaseException:  # the sweep is stopped: SIGTERM to its jobs
            for item in submitted:
                if not item.done():
                    item.cancel(check=False)
            raise

    def _result(self, job: Job, item: Any) -> tuple[Job, Any, str]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcome = item.results()[0]
            say(job, "has ended")
            return job, outcome, ""
        except (FailedJobError, UncompletedJobError):
            return job, None, f"its process died, see {_shown(item.paths.stderr)}"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class LocalSubmititJobs(SubmititJobs):
    cluster = "local"
