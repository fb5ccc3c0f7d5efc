"""An exported program in a process of its own that shares the libraries imported here: seconds less than an interpreter
that starts anew. What isolation itself is for is tested with `run_alone`."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import sys
from typing import Any

import torch

FORK = multiprocessing.get_context("fork")


def _executed(text: str, arguments: list[str], results: Any) -> None:
    torch.set_num_threads(1)
    sys.argv = ["train_gpt.py", *arguments, "--json"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            exec(compile(text, "train_gpt.py", "exec"), {"__name__": "__main__"})
        results.put(json.loads(said.getvalue().strip().splitlines()[-1]))
    except BaseException as problem:
        results.put(f"{type(problem).__name__}: {problem} after {said.getvalue()[-500:]}")


def run_forked(text: str, arguments: list[str]) -> dict[str, Any]:
    """What a program prints as JSON."""
    results = FORK.Queue()
    process = FORK.Process(target=_executed, args=(text, arguments, results))
    process.start()
    found = results.get(timeout=300)
    process.join(30)
    assert isinstance(found, dict), found
    return found
