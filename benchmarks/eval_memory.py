"""Memory of scoring a long split: growth of the resident set from before the split is opened to its peak.

A split of random tokens with documents is written to a shard and mapped; the scorer is trivial, so what grows is
golf's: windows, ledger, byte counts, breakdown. The limit of a 62-M-token split is 1.5 GB.

    python benchmarks/eval_memory.py                     # 62 M tokens, contiguous and sliding stride 64
    python benchmarks/eval_memory.py --tokens 12000000 --stride 512

Result: benchmarks/results/eval_memory.json
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golf.data.bytes import uniform_byte_table
from golf.data.shards import Shards, write_shard
from golf.evaluation.breakdown import Breakdown
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding

RESULT = Path(__file__).parent / "results" / "eval_memory.json"
VOCAB, CONTEXT, DOCUMENT_TOKENS, BOS = 1024, 1024, 1240, 1
MIB = 1 << 20


class Trivial(nn.Module):
    """Every token equally likely."""

    vocab_size = VOCAB

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, reduction: str = "none") -> Tensor:
        return torch.full(targets_BT.shape, math.log(VOCAB))

    def nll_at(self, ids_BT: Tensor, targets_BT: Tensor, positions_BS: Tensor) -> Tensor:
        return torch.full(positions_BS.shape, math.log(VOCAB))


class PeakResident(threading.Thread):
    """Resident memory of this process, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = resident()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            self.peak = max(self.peak, resident())

    def growth(self) -> int:
        self.done.set()
        return max(self.peak, resident()) - self.before


def resident() -> int:
    """Bytes of this process in memory, file pages that it maps included."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=62_021_633)
    parser.add_argument("--stride", type=int, default=64)
    parser.add_argument("--output", default=str(RESULT), help="'' = write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fineweb_val_000000.bin"
        tokens = np.random.default_rng(0).integers(2, VOCAB, arguments.tokens, dtype=np.uint16)
        tokens[::DOCUMENT_TOKENS] = BOS
        write_shard(path, tokens)
        del tokens
        for evaluator in (Contiguous(CONTEXT), Sliding(CONTEXT, arguments.stride)):
            watch, begun = PeakResident(), time.process_time()
            watch.start()
            split = Shards([path], VOCAB, BOS).take(0, arguments.tokens)
            table = uniform_byte_table(VOCAB, 3)
            breakdown = Breakdown(split, table, CONTEXT, BOS, [(path.name, arguments.tokens)])
            found = evaluate(Trivial(), split, table, evaluator, bos_id=BOS, breakdown=breakdown)
            if not found.coverage.complete:
                raise SystemExit(f"{evaluator.name}: {found.coverage}")
            growth = watch.growth()
            results[evaluator.name] = {"growth_bytes": growth, "cpu_seconds": time.process_time() - begun}
            print(
                f"{evaluator.name}: {arguments.tokens:,} tokens, {growth / MIB:,.0f} MiB more than before, at the peak"
            )
    if arguments.output:
        results = {"tokens": arguments.tokens, "stride": arguments.stride, **results}
        Path(arguments.output).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
