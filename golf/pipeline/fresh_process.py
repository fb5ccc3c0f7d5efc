"""A process of its own for scoring: started, listened to, and ended with the one that waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")  # the process is no rank


def run_fresh(command: list[str], say: Callable[[str], None], device: int = 0) -> tuple[int, str]:
    """Run a command on a device, saying its lines as they come; its exit code and what it wrote to stderr.

    It is in a session of its own: Ctrl-C reaches this process, which then ends it, so that one line is said, not two.
    """
    environment = {k: v for k, v in os.environ.items() if k not in RANK_VARIABLES} | {"GOLF_SCORING_CHILD": "1"}
    environment |= {"LOCAL_RANK": str(device)} if device else {}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                say(line.rstrip("\n"))
            code = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        errors.seek(0)
        return code, errors.read()


def run_together(commands: list[list[str]], say: Callable[[str], None]) -> list[tuple[int, str]]:
    """Run commands at the same time, the n-th on device n; a line that several of them say is said once."""
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda numbered: run_fresh(numbered[1], once, numbered[0]), enumerate(commands)))


class ScoringProgress:
    """Says how far a long scoring is, at most every ten seconds; ends the process if nobody waits for it any more.

    `clock`: of the scoring; it knows what is left, and the limit.
    """

    def __init__(self, what: str, say: Callable[[str], None], clock: Any):
        self.what, self.say, self.clock = what, say, clock
        self.next, self.parent = time.monotonic() + 10.0, os.getppid()

    def __call__(self, done: int, total: int) -> None:
        if os.environ.get("GOLF_SCORING_CHILD") and os.getppid() != self.parent:
            sys.exit(1)
        now = time.monotonic()
        if now >= self.next and done < total:
            self.say(f"{self.what}: {self.clock.eta()}")
            self.next = now + 10.0
