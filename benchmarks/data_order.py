"""Cost of the orders: resuming at step 5,000 of the official training set, and a micro-batch of the record runs.

    python benchmarks/data_order.py

Target: resuming takes seconds. 80 shards of 100 million tokens are stood in for by their sizes (nothing is read while
an order is replayed); batches are read from four real files, warm in the page cache. Writes
benchmarks/results/data_order.json.
"""

import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from data_stream import processor_name

from golf.data.coprime import CoprimeStream
from golf.data.packed import PackedStream
from golf.data.shards import Shards, write_shard
from golf.data.shuffled import ShuffledStream
from golf.data.stream import SequentialStream

RESULT = Path(__file__).parent / "results" / "data_order.json"
TOKENS_PER_STEP, SEQ_LEN, RESUMED_STEP, BATCHES = 786_432, 2048, 5000, 200


class SizesOnly(Shards):
    """The official training set as far as an order sees it before it reads."""

    def __init__(self) -> None:
        self.lengths = [100_000_000] * 80
        self.paths = [f"fineweb_train_{index:06d}.bin" for index in range(80)]


def replay_seconds(order: type[CoprimeStream] | type[ShuffledStream], devices: int) -> float:
    """Time of one rank to its first windows at the resumed step."""
    stream = order(SizesOnly(), TOKENS_PER_STEP, SEQ_LEN, 8)
    begun = time.perf_counter()
    for micro_step in range(8 // devices):
        list(stream.span_windows(RESUMED_STEP, micro_step * devices))
    return round(time.perf_counter() - begun, 3)


def batch_milliseconds(stream, devices: int) -> float:
    """Mean time of one micro-batch of rank 0."""
    stream.batch(0, 0, devices)
    begun = time.perf_counter()
    for micro_step in range(1, BATCHES + 1):
        stream.batch(micro_step, 0, devices)
    return round((time.perf_counter() - begun) / BATCHES * 1e3, 3)


def main() -> None:
    torch.set_num_threads(1)
    replay = {
        f"{order.__name__}, {devices} devices": replay_seconds(order, devices)
        for order in (CoprimeStream, ShuffledStream)
        for devices in (8, 1)
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"fineweb_train_{index:06d}.bin" for index in range(4)]
        for seed, path in enumerate(paths):
            tokens = np.random.default_rng(seed).integers(0, 1000, size=20_000_000, dtype=np.uint16)
            write_shard(path, tokens)
        shards = Shards(paths, vocab_size=1024, bos_id=1)
        batches = {
            f"{order.__name__}, {devices} devices": batch_milliseconds(
                order(shards, TOKENS_PER_STEP, SEQ_LEN, 8), devices
            )
            for order in (SequentialStream, CoprimeStream, ShuffledStream, PackedStream)
            for devices in (8, 1)
        }
    result = {
        "what": f"seconds to resume at step {RESUMED_STEP} (80 x 100 M tokens, {TOKENS_PER_STEP} a step, rows of "
        f"{SEQ_LEN}); milliseconds per micro-batch of 98,304 tokens, ids checked, one thread, warm page cache",
        "command": "python benchmarks/data_order.py",
        "date": datetime.date.today().isoformat(),
        "hardware": {"cpu": processor_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "resume_seconds": replay,
        "batch_milliseconds": batches,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
