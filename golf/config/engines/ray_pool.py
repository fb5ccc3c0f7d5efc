"""hydra/launcher=ray: one GPU per job from the GPUs of this machine, or of a Ray cluster (`address=<host>:6379`).

Ray (https://docs.ray.io) places each job where its cores and GPUs are free, sets CUDA_VISIBLE_DEVICES for it, and gives
it a process of its own. A job whose process or machine dies is started again up to `retries` times and goes on from its
last checkpoint; folders must therefore lie on a disk that every machine of the cluster sees. (hydra-ray-launcher 1.2.2
needs cloudpickle < 3 and a boto3 that does not go with W&B's urllib3, and one dead job ends its sweep.)
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from golf.config.engines.jobs import Job, JobLauncher, Task, say
from golf.errors import Interrupted, UserError
from golf.signals import stop_with

PROBE_SECONDS = 30  # ray.init itself waits two minutes for a head that is not there


class RayJobs(JobLauncher):
    """address, cpus_per_job, gpus_per_job, retries; num_cpus and num_gpus of a pool that is started here."""

    def results(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any, str]]:
        import ray

        connect(self.settings["address"], self.settings["num_cpus"], self.settings["num_gpus"])
        gpus, cpus = self._gpus(ray), self.settings["cpus_per_job"]
        require_room(ray.nodes(), cpus, gpus)
        print(f"{len(jobs)} jobs, each with {cpus:g} cores and {gpus:g} GPUs, on {_capacity(ray.nodes())}", flush=True)
        remote = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=int(self.settings["retries"]), max_calls=1, retry_exceptions=False
        )(on_worker)
        given = {remote.remote(task, job.number, job.overrides, str(Path.cwd())): job for job in jobs}
        with stop_with("stopped by {signal}"):  # ray.init has put its own handlers in the place of golf's
            while given:
                try:
                    found, _ = ray.wait(list(given), num_returns=1, timeout=1)  # signals are seen in between
                except SystemError as error:  # how Ray's compiled part hands on what a signal raises
                    raise (error.__cause__ if isinstance(error.__cause__, Interrupted) else error) from None
                for ready in found:
                    yield _result(ray, ready, given.pop(ready))

    def _gpus(self, ray: Any) -> float:
        """What a job gets unless told: a GPU for each of its devices, none where the pool has no GPUs."""
        if self.settings["gpus_per_job"] is not None:
            return self.settings["gpus_per_job"]
        devices = self.config.hardware.devices if "hardware" in self.config else 1
        return int(devices or 1) if ray.cluster_resources().get("GPU") else 0


def on_worker(task: Task, number: int, overrides: Sequence[str], folder: str) -> Any:
    """A job in a process of Ray's. SIGTERM (a machine that is taken away) ends the process, and Ray starts it again."""
    os.chdir(folder)
    try:
        return task(number, overrides, f"ray_{number}")
    except Interrupted as stopped:
        os._exit(stopped.exit_code)


def _result(ray: Any, ready: Any, job: Job) -> tuple[Job, Any, str]:
    try:
        outcome = ray.get(ready)
        say(job, "has ended")
        return job, outcome, ""
    except ray.exceptions.RayTaskError as error:
        return job, None, f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
    except ray.exceptions.RayError as error:
        return job, None, f"its process died at each attempt ({type(error).__name__})"


def connect(address: str | None, num_cpus: int | None, num_gpus: int | None) -> None:
    """Joins the cluster at an address, or starts a pool of this machine's cores and GPUs.

    Raises:
        UserError: no Ray head answers within the time.
    """
    import ray

    if ray.is_initialized():  # the next batch of a sweeper
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a job without GPUs keeps the environment's
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(_paths())}}
    quiet = {"log_to_driver": False, "logging_level": "error", "runtime_env": environment}
    if address is None:
        ray.init(address="local", num_cpus=num_cpus, num_gpus=num_gpus, include_dashboard=False, **quiet)
        return
    require_head(address)
    ray.init(address=address, **quiet)


def require_head(address: str, seconds: float = PROBE_SECONDS) -> None:
    """Raises UserError unless a Ray head answers at the address; tried in another process, which can be ended."""
    todo = "start one with ray start --head, or leave hydra.launcher.address out to use this machine alone"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"hydra.launcher.address={address}: no Ray head answers there ({reason}); {todo}") from None
    elif address != "auto":
        raise UserError(f"hydra.launcher.address={address}: allowed are <host>:6379, ray://<host>:10001 and auto")
    code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='critical')"
    try:
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"hydra.launcher.address={address}: what listens there is no Ray head of this version (no answer in "
            f"{seconds:g} s); {todo}"
        ) from None
    if done.returncode:
        raise UserError(f"hydra.launcher.address={address}: no Ray head answers there; {todo}")


def require_room(nodes: Sequence[dict[str, Any]], cpus: float, gpus: float) -> None:
    """Raises UserError if no machine of the pool is large enough for a job: Ray would wait for one for ever."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in alive):
        raise UserError(
            f"no machine of the Ray pool has {cpus:g} cores and {gpus:g} GPUs for a job (there are "
            f"{_capacity(nodes)}): lower hydra.launcher.cpus_per_job or hydra.launcher.gpus_per_job"
        )


def _capacity(nodes: Sequence[dict[str, Any]]) -> str:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    counts = [f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in alive]
    return f"{len(alive)} machine{'s' if len(alive) > 1 else ''} with {', '.join(counts)}"


def _paths() -> list[str]:
    """Where workers find this golf, and the techniques beside the script."""
    import golf

    found = [str(Path(golf.__file__).resolve().parents[1]), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    return [path for path in dict.fromkeys(found) if path]
