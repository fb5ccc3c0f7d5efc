"""Speed and memory of the training stream: shards → int64 tensors, on one core.

    python benchmarks/data_stream.py

Targets: at least 50 M tokens/s per core at the baseline's batch (65,536 tokens per micro-step), less than 50 µs for a
small batch, and memory that does not grow with the number of shards. Shards are warm in the page cache (a cold read
is the disk's business). Writes benchmarks/results/data_stream.json.
"""

import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from golf.data.shards import Shards, train_shards, write_shard
from golf.data.stream import SequentialStream

RESULT = Path(__file__).parent / "results" / "data_stream.json"
SHARD_TOKENS = 20_000_000
REPETITIONS = 9


def processor_name() -> str:
    """The CPU's name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def private_megabytes() -> float:
    """Memory of this process without file-backed pages (Linux), in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def mapped_megabytes() -> float:
    """File-backed pages of this process (Linux), in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssFile"].split()[0]) / 1024


def seconds_per_batch(stream: SequentialStream, micro_steps: int) -> float:
    """Median over repetitions of the mean time of a batch in a sequential run."""
    times = []
    for repetition in range(REPETITIONS):
        start = time.perf_counter()
        for micro_step in range(micro_steps):
            stream.batch(repetition * micro_steps + micro_step)
        times.append((time.perf_counter() - start) / micro_steps)
    return statistics.median(times)


def measure_memory(folder: Path, num_shards: int) -> dict[str, float]:
    """Growth of memory after touching every shard of a stream of `num_shards` (hard links to one file)."""
    for index in range(1, num_shards):
        link = folder / f"fineweb_train_{index:06d}.bin"
        if not link.exists():
            os.link(folder / "fineweb_train_000000.bin", link)
    before, before_mapped = private_megabytes(), mapped_megabytes()
    shards = Shards(train_shards(folder)[:num_shards])
    stream = SequentialStream(shards, 524_288, 1024)
    for first in range(0, len(shards), SHARD_TOKENS // 2):
        stream.batch(first // 65_537)
    return {
        "shards": num_shards,
        "private_growth_mb": round(private_megabytes() - before, 2),
        "mapped_growth_mb": round(mapped_megabytes() - before_mapped, 2),
    }


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokens = np.random.default_rng(0).integers(0, 1024, size=SHARD_TOKENS, dtype=np.uint16)
        write_shard(folder / "fineweb_train_000000.bin", tokens)
        sizes = {}
        for vocab_size, label in ((None, "unchecked"), (1024, "ids checked")):
            shards = Shards(train_shards(folder), vocab_size)
            for tokens_per_batch in (2_048, 16_384, 65_536, 524_288):
                stream = SequentialStream(shards, tokens_per_batch, 1024, 1)
                seconds = seconds_per_batch(stream, max(20, 8_000_000 // tokens_per_batch))
                sizes[f"{tokens_per_batch} tokens, {label}"] = {
                    "microseconds": round(seconds * 1e6, 2),
                    "million_tokens_per_second": round(tokens_per_batch / seconds / 1e6, 1),
                }
        memory = [measure_memory(folder, count) for count in (1, 16, 195)] if Path("/proc/self/status").exists() else []
    result = {
        "what": "SequentialStream.batch: uint16 spans of a file to int64 tensors, one thread, warm page cache",
        "command": "python benchmarks/data_stream.py",
        "date": datetime.date.today().isoformat(),
        "hardware": {"cpu": processor_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "batches": sizes,
        "memory": memory,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
