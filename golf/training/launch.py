"""Starts the ranks of a run under torchrun and turns the death of one of them into one clear line.

`python -m golf.training.launch <devices> <run folder>`: what `hardware.devices=N` re-executes. The run folder is pinned
before the first rank starts, so the ranks cannot disagree about it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping

from golf.errors import GolfError, Interrupted

SAID = (2, 3, 4, 128 + signal.SIGTERM, 128 + signal.SIGINT)  # exit codes of ranks that have said why
RANK_LOST = 75  # as in golf.training.heartbeat: said why, and which other rank is to blame


def main(argv: list[str]) -> int:
    """Run the ranks; returns golf's exit code of a rank that failed and said why, 0 if none failed.

    Raises:
        GolfError: a rank has died; names it.
        Interrupted: a signal asked for the end; the ranks have been told and have ended.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    devices, folder = argv
    script = ["--standalone", "--nproc-per-node", devices, "-m", "golf.training.rank", folder]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun would warn; each rank sets hardware.threads itself
    os.environ["TORCHELASTIC_ERROR_FILE"] = os.devnull
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # golf says what happened
    try:
        run(get_args_parser().parse_args(script))
    except ChildFailedError as error:
        return verdict({rank: failure.exitcode for rank, failure in error.failures.items()}, folder)
    except SignalException as error:
        raise Interrupted(f"{devices} ranks were stopped by {error.sigval.name}", error.sigval) from None
    return 0


def verdict(exit_codes: Mapping[int, int], folder: str) -> int:
    """The exit code that counts when ranks have failed: one rank's end brings the others down after it.

    Raises:
        GolfError: the rank to blame has not said why: killed, or ended by a bug.
    """
    if RANK_LOST in exit_codes.values():
        return 1
    killed = [rank for rank, code in exit_codes.items() if code < 0 and code != -signal.SIGTERM]
    said = [code for code in exit_codes.values() if code in SAID]
    if said and not killed:
        return said[0]
    rank = killed[0] if killed else min(exit_codes)
    code = exit_codes[rank]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    raise GolfError(
        f"rank {rank} {how}; all ranks were stopped: go on from the last checkpoint with python train.py run={folder}"
    ) from None


if __name__ == "__main__":
    from golf.config.entry import guard

    sys.exit(guard(lambda: main(sys.argv[1:])))
