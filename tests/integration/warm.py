"""A warm interpreter for tests that need whole processes: it imports torch and lightning once and forks for every run.

`python warm.py` reads one JSON request per line and answers with the fork's process id, or with the exit code of one
that it is asked to wait for. A fork is train.py itself: same entry point, same exit codes. A request may carry
`trace` (a file that gets one line per event), `kill_at` ([event, signal]: that signal at the first such event),
`full_at` (from the first such event on, the disk is full), `environment` and `idle` (a file that gets what idle steps
communicated and read; see idle_steps.py).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

TINY = (
    "experiment=smoke",
    "hardware=cpu",
    "hardware.compile=false",
    "hardware.threads=1",
    "hardware.compute_dtype=float32",
    "budget.max_steps=8",
    "data.tokens_per_step=256",
    "data.train_tokens=60000",
    "data.val_tokens=4000",
    "eval.max_tokens=256",
    "callbacks.checkpoint.every_steps=3",
)


class Warm:
    """The client's side: start runs, signal them, wait for them."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        self.data = f"data.folder={folder / 'data'}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, *argv: str, **how: Any) -> Run:
        """`python train.py <argv>`, in the folder of this object."""
        self.count += 1
        output = self.folder / f"output_{self.count}.txt"
        request = {"argv": list(argv), "output": str(output), "cwd": str(self.folder), **how}
        return Run(self, int(self.ask(request)["pid"]), output)

    def run(self, *argv: str, **how: Any) -> tuple[int, str]:
        """(exit code, everything it said); a negative code is the signal that killed it."""
        return self.start(*argv, **how).wait()

    def train(self, run: Path, *overrides: str, **how: Any) -> tuple[int, str]:
        """A new tiny run."""
        return self.run(*TINY, self.data, f"hydra.run.dir={run}", *overrides, **how)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(timeout=20)


class Run:
    def __init__(self, warm: Warm, pid: int, output: Path):
        self.warm, self.pid, self.output = warm, pid, output

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8") if self.output.is_file() else ""

    def wait(self) -> tuple[int, str]:
        code = self.warm.ask({"wait": self.pid})["code"]
        return code, self.said()


def serve() -> None:
    """The warm process: import once, then fork on request."""
    import lightning.pytorch  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import zstandard  # noqa: F401

    import golf.app
    import golf.codec.artifact
    import golf.config.command
    import golf.evaluation.protocol
    import golf.pipeline.export
    import golf.pipeline.train
    import golf.report.html
    import golf.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            reply = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                _become(request)
            reply = {"pid": pid}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _become(request: dict[str, Any]) -> None:
    """In the fork: run the command line and end with its exit code."""
    code = 1
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        os.chdir(request["cwd"])
        os.environ |= request.get("environment", {})
        _watch(request.get("trace"), request.get("kill_at"), request.get("full_at"))
        if request.get("idle"):
            from idle_steps import watch

            watch(Path(request["idle"]))
        sys.argv = ["train.py", *request["argv"]]
        from golf.app import main_train

        main_train()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _watch(trace: str | None, kill_at: list[Any] | None, full_at: str | None) -> None:
    """Turn the places where a run touches the disk, logs a step or starts a process into events `<what>:<name>`."""
    import golf.training.loggers as loggers

    counts: dict[str, int] = {}

    def happened(event: str) -> None:
        counts[event] = counts.get(event, 0) + 1
        if trace:
            with open(trace, "a") as file:
                file.write(event + "\n")
        if kill_at and event == kill_at[0] and counts[event] == 1:
            os.kill(os.getpid(), kill_at[1])
        if full_at and full_at in counts and not event.startswith("step:"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def name_of(path: Any) -> str:
        path = Path(os.readlink(f"/proc/self/fd/{path}")) if isinstance(path, int) else Path(path)
        name = path.name
        if name.endswith(".part"):
            name = ".".join(part for part in name.strip(".").split(".") if part != "part" and not part.isdigit())
        above = path.parent.name if path.parent.name in STAGE_FOLDERS else ""
        return f"{above}/{name}" if above else name

    fsync, replace, rmtree = os.fsync, os.replace, shutil.rmtree
    log_metrics, popen = loggers.JsonLinesLogger.log_metrics, subprocess.Popen.__init__

    def watched_fsync(descriptor: int) -> None:
        happened(f"write:{name_of(descriptor)}")
        fsync(descriptor)

    def watched_replace(source: Any, target: Any, **options: Any) -> None:
        happened(f"rename:{name_of(target)}")
        replace(source, target, **options)
        happened(f"renamed:{name_of(target)}")

    def watched_rmtree(path: Any, *rest: Any, **options: Any) -> None:
        if Path(path).exists():
            happened(f"remove:{name_of(path)}")
        rmtree(path, *rest, **options)

    def watched_log(self: Any, metrics: dict[str, float], step: int | None = None) -> None:
        happened(f"step:{step}")
        log_metrics(self, metrics, step)

    def watched_popen(self: Any, command: Any, *rest: Any, **options: Any) -> None:
        popen(self, command, *rest, **options)
        happened(f"process:{command[2] if len(command) > 2 else command[0]}")

    os.fsync, os.replace, shutil.rmtree = watched_fsync, watched_replace, watched_rmtree
    loggers.JsonLinesLogger.log_metrics = watched_log
    subprocess.Popen.__init__ = watched_popen


STAGE_FOLDERS = ("train", "average", "calibrate", "quantise", "pack", "verify", "score", "evaluations")

if __name__ == "__main__":
    serve()
