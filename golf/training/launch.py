"""Starts the ranks of a run under torchrun and turns the death of one of them into one clear line.

`python -m golf.training.launch <devices> <run folder>`: what `hardware.devices=N` re-executes. The run folder is pinned
before the first rank starts, so the ranks cannot disagree about it.
"""

from __future__ import annotations

import os
import signal
import sys

from golf.errors import GolfError


def main(argv: list[str]) -> int:
    """Run the ranks; returns golf's exit code of the first rank that failed, 0 if none did."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    devices, folder = argv
    script = ["--standalone", "--nproc-per-node", devices, "-m", "golf.training.rank", folder]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TORCHELASTIC_ERROR_FILE"] = os.devnull
    try:
        run(get_args_parser().parse_args(script))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        if code in (2, 3, 4) or code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            return code  # the rank has said why
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise GolfError(
            f"rank {rank} {how}; all ranks were stopped. The last checkpoint is complete: "
            f"go on with python train.py run={folder}"
        ) from error
    except Exception as error:
        if type(error).__name__ == "SignalException":
            print(f"golf: stopped; go on with: python train.py run={folder}", file=sys.stderr)
            return 128 + int(getattr(error, "sigval", signal.SIGTERM))
        raise
    return 0


if __name__ == "__main__":
    from golf.config.entry import guard

    sys.exit(guard(lambda: main(sys.argv[1:])))
