"""Independent jobs spread over ranks and processor cores; every rank gets all results, in the order of the jobs.

Rank r of W does jobs r, r + W, r + 2W … Each job runs on one core with torch on one thread, so that its result does not
depend on how many cores, threads or ranks there are. Invariant: the results are those of doing the jobs one by one;
an error of a job on any rank is raised on every rank.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from golf.errors import GolfError

JobResult = TypeVar("JobResult")


def singular_values(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vᵀ of a float32 matrix, on one thread: several would add in another order, and so give other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        U, S, Vt = torch.linalg.svd(matrix, full_matrices=False)
    finally:
        torch.set_num_threads(threads)
    return U, S, Vt


def results_of_jobs(
    jobs: Sequence[Callable[[], JobResult]], rank: int = 0, world: int = 1, one_thread: bool = True
) -> list[JobResult]:
    """Do `jobs`, together with the other ranks (which have to call this with the same jobs).

    Args:
        one_thread: each job on one core, several at a time (for work on a CPU); otherwise one after the other (a GPU).

    Raises:
        GolfError: what the first job that failed, in the order of the jobs, raised.
    """

    def outcome(job: Callable[[], JobResult]) -> Any:
        try:
            return job()
        except GolfError as error:
            return error

    threads, mine = torch.get_num_threads(), jobs[rank::world]
    if one_thread:
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(max(1, threads)) as pool:
                found = list(pool.map(outcome, mine))
        finally:
            torch.set_num_threads(threads)
    else:
        found = [outcome(job) for job in mine]
    results = interleaved(found, len(jobs), world) if world > 1 else found
    for result in results:
        if isinstance(result, GolfError):
            raise result
    return results


def interleaved(mine: list[Any], count: int, world: int) -> list[Any]:
    """The results of all ranks, each of which has every `world`-th, in the order of the jobs."""
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, mine)
    return [parts[index % world][index // world] for index in range(count)]
