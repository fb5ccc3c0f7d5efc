"""hydra/launcher=joblib: jobs on the cores of this machine, n_jobs at a time, in the processes of joblib's pool (loky).

When a process of the pool is killed, the pool is gone: the jobs that are left then run one at a time, each in a process
of its own, which spares the others and tells which one dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from golf.config.engines.jobs import GRACE_SECONDS, Job, JobLauncher, Task, say
from golf.config.engines.records import finished
from golf.errors import UserError


class JoblibJobs(JobLauncher):
    """n_jobs: processes at once, -1 for one per core."""

    def results(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any, str]]:
        left = []
        for job, outcome, death in run_in_pool(task, jobs, processes(self.settings["n_jobs"])):
            if death:
                left.append(job)
            else:
                yield job, outcome, ""
        if left:
            print(f"a process of the pool was killed; the {len(left)} jobs left run one at a time", flush=True)
        for job in left:
            record = finished(job.folder, job.overrides)  # it may have ended just before the pool broke
            if record is not None:
                yield job, record["objective"], ""
            else:
                say(job, "starts in a process of its own")
                yield from run_in_pool(task, [job], 1)


def processes(n_jobs: Any) -> int:
    """Processes at once.

    Raises:
        UserError: neither -1 nor a positive number.
    """
    from joblib import cpu_count

    if not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
        raise UserError(f"hydra.launcher.n_jobs={n_jobs} must be a positive number, or -1 for one per core")
    return cpu_count() if n_jobs == -1 else n_jobs


def run_in_pool(task: Task, jobs: Sequence[Job], count: int) -> Iterator[tuple[Job, Any, str]]:
    """Each job with its objective, or with why its process gave none."""
    from concurrent.futures import BrokenExecutor

    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cpu_count() // count))  # cores are shared out
    pool = ProcessPoolExecutor(max_workers=min(count, len(jobs)), env={"OMP_NUM_THREADS": threads})
    futures = [pool.submit(task, job.number, job.overrides, str(job.number)) for job in jobs]
    try:
        for job, future in zip(jobs, futures):
            try:
                yield job, future.result(), ""
            except BrokenExecutor:
                yield job, None, "its process was killed (out of memory?)"
    except BaseException:
        _stop(pool, futures)
        raise
    finally:
        pool.shutdown(kill_workers=True)


def _stop(pool: Any, futures: Sequence[Any]) -> None:
    """The sweep is stopped: jobs under way get SIGTERM, and the time to write their checkpoints."""
    from concurrent.futures import wait

    under_way = [future for future in futures if not future.done() and not future.cancel()]
    for process in list(pool._processes or ()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    wait(under_way, timeout=GRACE_SECONDS)
