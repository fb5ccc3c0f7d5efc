"""Milliseconds per step that the Lightning path adds to golf/loop.py: python benchmarks/lightning_overhead.py

A model so small that the host's own work dominates, in pairs of runs, one of each path in turn (ABBA), so that the
machine's other load hits both. Each run's steps are timed one by one; a pair's figure is the difference of its two
medians, the result the median over pairs. Target: at most 0.4 ms (1 % of a 40 ms step). The differences in processor
time and in the fastest tenth of the steps are given as well: they depend less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

TARGET_MS = 0.4
OVERRIDES = (
    *("experiment=smoke", "hardware=cpu", "hardware.compile=false", "hardware.threads=1", "average=none"),
    *("model.num_layers=1", "model.width=16", "model.num_heads=1", "data.tokens_per_step=32", "data.seq_len=16"),
    *("data.spans_per_step=1", "data.train_tokens=200000", "data.val_tokens=4000", "hardware.compute_dtype=float32"),
    *("callbacks.checkpoint.every_seconds=0", "trainer.log_every_steps=10", "callbacks.console.every_seconds=3600"),
    *("tokenizer.vocab_size=64", "optim.newton_schulz_steps=1"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "lightning_overhead.json")
    parser.add_argument("--profile", action="store_true", help="print where the Lightning path spends its time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.steps)
        bench.lightning(), bench.reference()
        if options.profile:
            return profile(bench)
        pairs = []
        for index in range(options.pairs):
            order = (bench.lightning, bench.reference) if index % 2 else (bench.reference, bench.lightning)
            found = {path.__name__: path() for path in order}
            pairs.append(found)
            print({name: [round(value, 4) for value in both] for name, both in found.items()}, flush=True)
    differences = [[a - b for a, b in zip(pair["lightning"], pair["reference"])] for pair in pairs]
    wall, processor, fastest = ([difference[kind] for difference in differences] for kind in range(3))
    result = {
        "what": "ms per step of the Lightning path over golf/loop.py",
        "command": "python " + " ".join(["benchmarks/lightning_overhead.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "pairs": options.pairs,
        "steps_per_run": options.steps,
        "reference_ms": round(statistics.median(pair["reference"][0] for pair in pairs), 4),
        "lightning_ms": round(statistics.median(pair["lightning"][0] for pair in pairs), 4),
        "difference_ms": round(statistics.median(wall), 4),
        "differences_ms": [round(value, 4) for value in wall],
        "difference_processor_ms": round(statistics.median(processor), 4),
        "difference_fastest_tenth_ms": round(statistics.median(fastest), 4),
        "load_average": round(os.getloadavg()[0], 2),
        "target_ms": TARGET_MS,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


class Bench:
    """The two paths on the same resolved config; each call is one run, and returns its median milliseconds per step."""

    def __init__(self, folder: Path, steps: int):
        from golf.config.compose import compose
        from golf.training.resolve import resolve_config

        self.folder, self.steps, self.count = folder, steps, 0
        overrides = [*OVERRIDES, f"data.folder={folder / 'data'}", f"budget.max_steps={steps}"]
        self.config = resolve_config(compose("train", overrides))

    def session(self) -> Any:
        from golf.pipeline.run_folder import create_run_folder, silent
        from golf.training.device import torch_device
        from golf.training.session import open_session

        self.count += 1
        run = create_run_folder(self.folder / str(self.count), self.config, [])
        device = torch_device(self.config["hardware"])
        return run, open_session(self.config, run.path, run.data(silent), silent, device)

    def lightning(self) -> tuple[float, ...]:
        from golf.config.build import build
        from golf.pipeline.train import build_callbacks, build_loggers
        from golf.training.callbacks.base import GolfCallback, Together
        from golf.training.datamodule import GolfDataModule
        from golf.training.module import GolfModule

        marks = Marks()

        class Mark(GolfCallback):
            def on_step_end(self, session: Any, trainer: Any) -> None:
                marks.add()

        run, session = self.session()
        module = GolfModule(session)
        trainer = build({**self.config["trainer"], "_partial_": True})(
            session=session,
            callbacks=[*build_callbacks(self.config["callbacks"]), Together([Mark()])],
            loggers=build_loggers(run),
        )
        trainer.fit(module, datamodule=GolfDataModule(session, module))
        return marks.figures()

    def reference(self) -> tuple[float, ...]:
        """The plain loop, with what both do: schedule, clock, and the loss read every ten steps."""
        from golf.config.build import build
        from golf.loop import train

        _, session = self.session()
        optimizer = build(self.config["optim"])(session.net)
        marks, kept = Marks(), []

        def on_step(step: int, loss: Any) -> None:
            marks.add()
            kept.append(loss)
            if step % 10 == 0:
                float(kept[-1])
                kept.clear()

        train(
            *(session.net, optimizer, session.stream, session.schedules, session.clock, session.device), on_step=on_step
        )
        return marks.figures()


class Marks:
    """Ends of steps, in wall-clock time and in this thread's processor time (what it costs on a machine with load)."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def add(self) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.thread_time())

    def figures(self) -> tuple[float, float, float]:
        """Milliseconds per step, the first ten left out: median, median of processor time, fastest tenth."""
        wall, processor = ([(b - a) * 1e3 for a, b in pairwise(marks[10:])] for marks in (self.wall, self.processor))
        return statistics.median(wall), statistics.median(processor), sorted(wall)[len(wall) // 10]


def profile(bench: Bench) -> None:
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.runcall(bench.lightning)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def hardware() -> str:
    import torch

    from golf.training.device import describe_hardware

    node = {"devices": 1, "accelerator": "cpu", "threads": 1, "compute_dtype": "float32", "compile": False}
    return f"{describe_hardware(node)}, Python {platform.python_version()}, {torch.get_num_threads()} thread"


if __name__ == "__main__":
    main()
