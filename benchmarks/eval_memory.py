"""Memory of scoring a long split: growth of the resident set from before the split is opened to its peak.

A split of random tokens with documents is written to a shard and mapped; the scorer is trivial, so what grows is
golf's: windows, ledger, byte counts, breakdown. The limit of a 62-M-token split is 1.5 GB. Anonymous memory is what
golf holds; pages of mapped files (shard, ledger) are the system's to take back, and are counted apart. Every protocol
runs in a process of its own, so that none inherits the other's memory.

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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

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
RSS = ("RssAnon", "RssFile", "RssShmem")


class Trivial(nn.Module):
    """Every token equally likely."""

    vocab_size = VOCAB

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, reduction: str = "none") -> Tensor:
        return torch.full(targets_BT.shape, math.log(VOCAB))

    def nll_at(self, ids_BT: Tensor, targets_BT: Tensor, positions_BS: Tensor) -> Tensor:
        return torch.full(positions_BS.shape, math.log(VOCAB))


class PeakResident(threading.Thread):
    """Resident memory of this process, looked at ten times a second: anonymous, of files, and both together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = resident()
        self.peak = dict(self.before)
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            self.look()

    def look(self) -> None:
        now = resident()
        self.peak = {kind: max(self.peak[kind], now[kind]) for kind in now}

    def growth(self) -> dict[str, int]:
        self.done.set()
        self.look()
        return {f"{kind}_growth_bytes": self.peak[kind] - self.before[kind] for kind in self.peak}


def resident() -> dict[str, int]:
    """Bytes of this process in memory: anonymous pages, pages of files that it maps, and their sum."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if name in RSS
    }
    anonymous, files = found["RssAnon"], found["RssFile"] + found["RssShmem"]
    return {"anonymous": anonymous, "file": files, "resident": anonymous + files}


def measured(path: Path, tokens: int, evaluator: Any) -> dict[str, Any]:
    """Growth and CPU seconds of one scoring of the whole split; run in a process of its own."""
    torch.set_num_threads(1)
    watch, begun = PeakResident(), time.process_time()
    watch.start()
    split = Shards([path], VOCAB, BOS).take(0, tokens)
    table = uniform_byte_table(VOCAB, 3)
    breakdown = Breakdown(split, table, CONTEXT, BOS, [(path.name, tokens)])
    found = evaluate(Trivial(), split, table, evaluator, bos_id=BOS, breakdown=breakdown)
    if not found.coverage.complete:
        raise SystemExit(f"{evaluator.name}: {found.coverage}")
    return {**watch.growth(), "cpu_seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=62_021_633)
    parser.add_argument("--stride", type=int, default=64)
    parser.add_argument("--output", default=str(RESULT), help="'' = write nothing")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fineweb_val_000000.bin"
        tokens = np.random.default_rng(0).integers(2, VOCAB, arguments.tokens, dtype=np.uint16)
        tokens[::DOCUMENT_TOKENS] = BOS
        write_shard(path, tokens)
        del tokens
        for evaluator in (Contiguous(CONTEXT), Sliding(CONTEXT, arguments.stride)):
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                found = alone.submit(measured, path, arguments.tokens, evaluator).result()
            results[evaluator.name] = found
            grown = {kind: found[f"{kind}_growth_bytes"] / MIB for kind in ("resident", "anonymous", "file")}
            print(
                f"{evaluator.name}: {arguments.tokens:,} tokens, {grown['resident']:,.0f} MiB more than before at the "
                f"peak; anonymous {grown['anonymous']:,.0f}, pages of files {grown['file']:,.0f} (goal 1,500 in all)",
                flush=True,
            )
    if arguments.output:
        results = {"tokens": arguments.tokens, "stride": arguments.stride, **results}
        Path(arguments.output).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
