"""The demo's score, gated: trains experiment=demo at its fixed number of tokens and asks for <= 1.90 sliding BPB.

    python benchmarks/demo.py [--out benchmarks/results/demo.json] [--overrides …]

Runs `python train.py experiment=demo` in a temporary folder, reads its summary.json and compares the packed artifact's
sliding BPB with the gate and with a bigram model of the same split. Exit code 4 if the gate is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from golf.data.dataset import open_folder
from golf.data.reference import bigram_bpb, unigram_bpb
from golf.data.shards import Shards

GATE_BPB = 1.90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.json"))
    parser.add_argument("--overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        command = [sys.executable, "train.py", "experiment=demo", f"hydra.run.dir={run}", *arguments.overrides]
        begun = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - begun
        result = summarise(run, seconds)
    print(json.dumps(result, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["sliding_bpb"] <= GATE_BPB else 4


def summarise(run: Path, seconds: float) -> dict:
    """What the run came to, beside the reference models on the same validation split."""
    summary = json.loads((run / "summary.json").read_text())
    ladder = {entry["stage"]: entry["bpb"] for entry in summary["ladder"]}
    pinned = json.loads((run / "data.json").read_text())
    prepared = open_folder(pinned["folder"], pinned["tokenizer"])
    table = prepared.tokenizer().byte_table()
    train, val = Shards(prepared.train_paths).read_all(), prepared.validation_tokens()
    return {
        "benchmark": "demo",
        "hardware": summary["hardware"],
        "date": date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "gate_bpb": GATE_BPB,
        "sliding_bpb": ladder["sliding"],
        "ladder_bpb": ladder,
        "unigram_bpb": unigram_bpb(train, val, table),
        "bigram_bpb": bigram_bpb(train, val, table),
        "train_tokens": summary["train_tokens"],
        "train_seconds": summary["train_seconds"],
        "tokens_per_second": summary["tokens_per_second"],
        "total_seconds": seconds,
        "parameters": summary["parameters"],
        "artifact_bytes": summary["artifact_bytes"],
        "code_bytes": summary["code_bytes"],
        "total_bytes": summary["total_bytes"],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    sys.exit(main())
