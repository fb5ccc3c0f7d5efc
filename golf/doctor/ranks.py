"""Can the ranks of this machine talk? One bounded all_reduce over all of them, its sum checked, its speed told.

NCCL among the GPUs, gloo among two processes on a CPU. The ranks are processes of their own, ended when time is up:
what cannot be reached shows as one line, not as a hang. Where NCCL fails, the settings that some clouds need are tried.
`python -m golf.doctor.ranks <backend> <numbers>` is one rank.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from golf.doctor.finding import Line, Subject

SECONDS = 30.0
NUMBERS = {"nccl": 1 << 24, "gloo": 1 << 18}  # float32 values: 64 MB, 1 MB
REPEATS = 5
CURES: tuple[dict[str, str], ...] = ({"NCCL_IB_DISABLE": "1"}, {"NCCL_NET": "Socket"}, {"NCCL_P2P_DISABLE": "1"})
NOT_INHERITED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def ranks(subject: Subject) -> list[Line]:
    """An all_reduce among local GPUs, or between two processes where there is none."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if subject.hardware is None:  # the refusal is told elsewhere; what is here is looked at
        on_gpu, count = gpus > 0, gpus or 2
    else:
        on_gpu = subject.hardware["accelerator"] == "cuda"
        count = min(max(subject.devices, 1 if subject.asked else gpus), max(gpus, 1)) if on_gpu else 2
    backend = "nccl" if on_gpu else "gloo"
    return reach(backend, count, subject.seconds_left())


def reach(backend: str, count: int, left: float) -> list[Line]:
    """Try it; on failure try again with each of the known cures, as long as there is time."""
    what = f"{backend} x {count}"
    seconds, complaint = all_reduce(backend, count, min(SECONDS, max(left, 5.0)))
    if seconds is not None:
        bytes_moved = 4 * NUMBERS[backend]
        speed = f", {bytes_moved * 2 * (count - 1) / count / seconds / 1e9:,.1f} GB/s" if count > 1 else ""
        took = f"{bytes_moved / 2**20:,.0f} MB in {seconds * 1e3:,.2f} ms{speed}"
        return [Line("ok", what, f"all ranks have the same sum; all_reduce of {took}")]
    why = "training on several devices would hang or end at its first step"
    deadline = time.monotonic() + left - SECONDS
    for cure in CURES if backend == "nccl" else ():
        if time.monotonic() > deadline - 10:
            break
        if all_reduce(backend, count, 10.0, cure)[0] is not None:
            setting = " ".join(f"{name}={value}" for name, value in cure.items())
            return [Line("fail", what, complaint, f"export {setting}", f"{why}; with {setting} it works")]
    todo = "use another machine" if backend == "nccl" else "export GLOO_SOCKET_IFNAME=lo"
    return [Line("fail", what, complaint, todo, why)]


def all_reduce(
    backend: str, count: int, limit: float, cure: dict[str, str] | None = None, program: Sequence[str] | None = None
) -> tuple[float | None, str]:
    """(seconds of one all_reduce, "") or (None, what went wrong); every process has ended when this returns."""
    command = [*(program or (sys.executable, "-m", "golf.doctor.ranks")), backend, str(NUMBERS[backend])]
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    shared = inherited | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **(cure or {})}
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **pipes)
        for rank in range(count)
    ]
    deadline, said = time.monotonic() + limit, ["", ""]
    try:
        for rank, process in enumerate(started):
            out, err = process.communicate(timeout=max(deadline - time.monotonic(), 0.01))
            if process.returncode:
                return None, f"rank {rank}: {reason(err, process.returncode)}"
            said = [out, err]
    except subprocess.TimeoutExpired:
        ended = [reason(p.communicate()[1], p.returncode) for p in started if p.poll() not in (None, 0)]
        return None, ended[0] if ended else f"no answer within {limit:.0f} s: a rank waits for the others"
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()
    try:
        return float(json.loads(said[0].splitlines()[-1])["seconds"]), ""
    except (ValueError, KeyError, IndexError):
        return None, "a rank has ended without a result"


def reason(stderr: str, code: int | None) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or [f"ended with exit code {code}"])[-1][:200]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(argv: Sequence[str]) -> int:
    """One rank: sums its rank + 1 with the others', checks the sum, says how long one took."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    backend, numbers = argv[0], int(argv[1])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
    seconds = []
    for _ in range(REPEATS):
        values_N = torch.full((numbers,), float(rank + 1), device=device)
        dist.barrier()
        begun = time.perf_counter()
        dist.all_reduce(values_N)
        if backend == "nccl":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
        if not bool((values_N == world * (world + 1) / 2).all()):
            raise RuntimeError("the ranks' sum is wrong")
    print(json.dumps({"seconds": min(seconds)}), flush=True)
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
