"""A job of a sweep that costs nothing; how it ends is in its seed. STUB_MENDED: nothing goes wrong any more."""

from __future__ import annotations

import os
import signal
import time

from golf.config.job import current_job
from golf.errors import VerificationFailed

FAILS, HAS_A_BUG, IS_NAN, DIES_ONCE, DIES = 13, 14, 15, 16, 17


def job(config):
    """Leaves a file per attempt, with its devices in it; then fails, dies, or has an objective near its seed."""
    folder = current_job().folder
    attempt = folder / f"attempt_{time.time_ns()}"
    attempt.write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}")
    time.sleep(float(os.environ.get("STUB_SECONDS", "0")))
    seed = 0 if "STUB_MENDED" in os.environ else config.seed
    if seed == FAILS:
        raise VerificationFailed("the check failed")
    if seed == HAS_A_BUG:
        raise RuntimeError("a bug")
    if seed == DIES or (seed == DIES_ONCE and len(list(folder.glob("attempt_*"))) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return float("nan") if seed == IS_NAN else config.seed + (config.optim.matrix_lr - 0.03) ** 2


if __name__ == "__main__":
    from golf.config.entry import run_script

    run_script("train", "stub_job:job")
