"""Bytes and time of exported programs: every experiment named, readable and packed, made anew (nothing from the cache).

    python benchmarks/export.py [experiment …] [--run <run folder>] [--json benchmarks/results/export.json]

The configuration is the one that a run on GPUs writes down (golf/training/resolve.py): device and dtype are no longer
`auto`. With --run the run's program is also verified as `verify_code=true` does it: what an export costs its user.
Seconds are of this machine, CPU seconds of this process and its children.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

EXPERIMENTS = ("smoke", "baseline", "record/0322_ema_gptq_lite")
ON_GPUS = ("hardware.accelerator=cuda", "hardware.compute_dtype=bfloat16", "model.compute_dtype=bfloat16")
OFFICIAL_PLACE = "../../tokenizers/fineweb_1024_bpe.model"  # of the tokenizer, from the data folder
SENTENCE_PIECE = "golf.data.tokenizer_kinds.SentencePieceTokenizer"


def cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def export_of(experiment: str, composer: Any) -> dict[str, Any]:
    """Bytes of both forms of an experiment's program, and the CPU seconds of making them."""
    from golf.submission.flatten import as_shipped, flatten
    from golf.submission.pack import unpacked

    config = composer.compose([f"experiment={experiment}", *ON_GPUS, "hardware.compile=true", "hardware.threads=8"])
    begin = cpu_seconds()
    text = flatten(config, config["data"]["folder"], "0" * 64, SENTENCE_PIECE, OFFICIAL_PLACE)
    middle = cpu_seconds()
    packed = as_shipped(text, "packed")
    end = cpu_seconds()
    unpacked(packed)
    return {
        "experiment": experiment,
        "readable_bytes": len(text.encode()),
        "packed_bytes": len(packed),
        "specialise_cpu_seconds": round(middle - begin, 2),
        "pack_cpu_seconds": round(end - middle, 2),
        "unpack_cpu_seconds": round(cpu_seconds() - end, 2),
    }


def verified(run_folder: Path) -> dict[str, Any]:
    """What exporting and verifying the program of a finished run takes."""
    from golf.pipeline.run_folder import open_run_folder
    from golf.submission.flatten import write_submission
    from golf.submission.verify import verify_submission

    run = open_run_folder(run_folder)
    artifact = next((run_folder / "artifact").glob("*/model.golf"))
    cpu, wall = cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        code = write_submission(run.config, Path(folder) / "train_gpt.py")
        found = verify_submission(code, artifact, run_folder)
    return {
        "run": run.config["name"],
        "checks": found,
        "cpu_seconds": round(cpu_seconds() - cpu, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1),
    }


def command_line(options: argparse.Namespace) -> list[str]:
    """How to repeat this; folders of this machine by what they are."""
    return [*options.experiments, *(["--run", "<run folder>"] if options.run else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=EXPERIMENTS)
    parser.add_argument("--run", type=Path, help="a finished run, to be exported and verified")
    parser.add_argument("--json", type=Path, help="where the result is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty
        from golf.config.compose import Composer

        result: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "command": shlex.join(["python", "benchmarks/export.py", *command_line(options)]),
            "programs": [export_of(name, Composer("train")) for name in options.experiments],
        }
        if options.run:
            result["export_and_verification"] = verified(options.run)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.json:
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
