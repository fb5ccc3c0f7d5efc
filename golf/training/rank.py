"""One rank of a run that golf.training.launch started: `python -m golf.training.rank <run folder>` under torchrun."""

from __future__ import annotations

import sys

from golf.app import run_pipeline
from golf.config.entry import guard
from golf.pipeline.run_folder import open_run_folder


def main(argv: list[str]) -> int:
    run_pipeline(open_run_folder(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(guard(lambda: main(sys.argv[1:])))
