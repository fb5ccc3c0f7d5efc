"""The ranks of a training that has just ended share the exports' heavy stages: Hessians, and the solves of GPTQ.

Rank 0 goes through the stages; where one is worth sharing, it names the job, and every rank does its part in it with
the same files (`with_all_ranks`, `help_first_rank`). Between jobs the others wait, in a group without a timeout to
speak of, as rank 0 scores in the meantime. Only ranks of one machine stay: others do not see its files.
Invariant: rank 0 has the results of doing it alone; if it fails in a job, it says why, and its end ends the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from golf.config.build import build
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.stage import STAGES

# (run, arguments, rank, world) -> result
Job = Callable[[RunFolder, tuple[Any, ...], int, int], Any]

_LONGEST_WAIT = timedelta(days=2)
_waiting: list[Any] = []  # the group in which ranks wait for jobs, while there is one


def stay_or_part(config: Mapping[str, Any], interrupted: bool) -> None:
    """After training, on every rank: stay together if exports have something to share out, else leave the group."""
    dist.barrier()
    if not interrupted and shares_work(config):
        _waiting.append(dist.new_group(backend="gloo", timeout=_LONGEST_WAIT))
    else:
        dist.destroy_process_group()


def shares_work(config: Mapping[str, Any]) -> bool:
    """Whether all ranks are of this machine, and the exports that follow collect Hessians or solve."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if local != dist.get_world_size() or config["trainer"]["fast_dev_run"]:
        return False
    if STAGES.index(config["through"]) < STAGES.index("calibrate"):
        return False
    plan = build(config["quant"])
    return plan.needs_calibration() or any(hasattr(part, "convert_many") for part in plan.treatments())


def ranks_here() -> int:
    """How many ranks do a job together."""
    return dist.get_world_size() if _waiting else 1


def with_all_ranks(jobs: Mapping[str, Job], name: str, run: RunFolder, *arguments: Any) -> Any:
    """Do a job; with the ranks that stayed, if there are any."""
    if not _waiting:
        return jobs[name](run, arguments, 0, 1)
    group = _waiting.pop()  # if this fails in the middle of it, nobody waits for another one
    dist.broadcast_object_list([(name, arguments)], src=0, group=group, device=torch.device("cpu"))
    found = jobs[name](run, arguments, 0, dist.get_world_size())
    _waiting.append(group)
    return found


def help_first_rank(jobs: Mapping[str, Job], run: RunFolder) -> None:
    """On the other ranks: do their part of every job until rank 0 has no more, or is gone (it says why)."""
    while _waiting:
        order: list[Any] = [None]
        try:
            dist.broadcast_object_list(order, src=0, group=_waiting[0], device=torch.device("cpu"))
        except RuntimeError:
            order = [None]
        if order[0] is None:
            part()
            return
        name, arguments = order[0]
        jobs[name](run, arguments, dist.get_rank(), dist.get_world_size())


def dismiss() -> None:
    """On rank 0, after the last job: the others end."""
    if _waiting:
        dist.broadcast_object_list([None], src=0, group=_waiting[0], device=torch.device("cpu"))
        part()


def part() -> None:
    """Leave the process group."""
    _waiting.clear()
    dist.destroy_process_group()
