"""A process of its own for scoring: started, listened to, and ended with the one that waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")  # the process is no rank


def run_fresh(command: list[str], say: Callable[[str], None]) -> tuple[int, str]:
    """Run a command, saying its lines as they come; its exit code and what it wrote to stderr.

    It is in a session of its own: Ctrl-C reaches this process, which then ends it, so that one line is said, not two.
    """
    environment = {k: v for k, v in os.environ.items() if k not in RANK_VARIABLES} | {"GOLF_SCORING_CHILD": "1"}
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


class ScoringProgress:
    """Says how far a long scoring is, at most every ten seconds; ends the process if nobody waits for it any more."""

    def __init__(self, what: str, say: Callable[[str], None]):
        self.what, self.say, self.begun = what, say, time.monotonic()
        self.next, self.parent = self.begun + 10.0, os.getppid()

    def __call__(self, done: int, total: int) -> None:
        if os.environ.get("GOLF_SCORING_CHILD") and os.getppid() != self.parent:
            sys.exit(1)
        now = time.monotonic()
        if now >= self.next and done < total:
            left = (now - self.begun) / done * (total - done)
            self.say(f"{self.what}: {done / total:.0%}, about {left:.0f} s left")
            self.next = now + 10.0
