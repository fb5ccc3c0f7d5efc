"""Distance to the rate-distortion bound of a Gaussian source, from the bytes of real files.

    python benchmarks/trellis.py            (2^20 samples; writes benchmarks/results/trellis.json)

gap = 8 · bytes of the file / samples - 1/2 · log2(variance / mean squared error), header, scales and all; the error is
that of the file as it is read again. Walks along the rows by trellis and states, and down the columns by their length
(a Hessian of ones: no feedback). Then CPU seconds of the search on matrices of the shapes of a 17-M network.
"""

import argparse
import datetime
import json
import math
import platform
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import codec_named
from golf.quant.formats import deviation_rows
from golf.quant.rtn import quantise_rows
from golf.quant.state import QuantisedState
from golf.quant.trellis import TrellisQuantiser
from golf.quant.trellis_columns import TrellisColumns
from golf.quant.trellis_ldlq import TrellisLdlq

STATES = (4, 8, 16, 32, 64, 128, 256)
WALKS = (32, 64, 128, 256, 512)
SHAPES = {(512, 512): 4, (256, 512): 4, (1024, 512): 2, (512, 1024): 2}  # of a network of width 512: how many here


def along_rows(states, trellis):
    return lambda weight: TrellisQuantiser(states, trellis=trellis).convert("w", weight)


def down_columns(states, walk_rows):
    def convert(weight):
        matrix = weight.reshape(4096, 256)
        return TrellisColumns(states, walk_rows=walk_rows).convert("w", matrix, torch.eye(256))

    return convert


def rounding(weight):
    return quantise_rows(weight, deviation_rows(6, 12.85))


def measured(weight, label, convert):
    started = time.process_time()
    stored = convert(weight)
    seconds = time.process_time() - started
    blob = artifact_bytes(QuantisedState({"w": stored}, {"w": "other"}), {}, {}, codec_named("range"))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gaussian.golf"
        path.write_bytes(blob)
        decoded = read_artifact(path).quantised.tensors["w"].dequantise()
    error = float((decoded.reshape(weight.shape).double() - weight.double()).square().mean())
    rate = 8 * len(blob) / weight.numel()
    gap = rate - 0.5 * math.log2(float(weight.double().var()) / error)
    line = {
        "bytes": len(blob),
        "bits_per_weight": round(rate, 4),
        "mean_squared_error": error,
        "gap_bits": round(gap, 4),
    }
    print(f"{label}: {rate:.4f} bit, gap {gap:.4f}, search {seconds:.1f} CPU s", flush=True)
    return {**line, "gap_bits": round(gap, 4), "search_cpu_seconds": round(seconds, 1)}


def search_seconds(make):
    """CPU seconds on matrices of a network's shapes, and as many for 36 million weights."""
    used = weights = 0
    for (rows, columns), count in SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        matrices = [torch.randn(rows, columns, generator=generator) for _ in range(count)]
        inputs = torch.randn(2 * columns, columns, generator=generator)
        started = time.process_time()
        make().convert_many(["w"] * count, matrices, [inputs.T @ inputs] * count)
        used += time.process_time() - started
        weights += rows * columns * count
    result = {
        "weights": weights,
        "cpu_seconds": round(used, 1),
        "cpu_seconds_for_36_million": round(used / weights * 36e6),
    }
    print(result, flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "trellis.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weight = torch.randn(64, 16_384, generator=torch.Generator().manual_seed(0))
    lines = {
        "rounding": measured(weight, "rounding", rounding),
        **{
            trellis: {
                str(states): measured(weight, f"{trellis}, {states} states", along_rows(states, trellis))
                for states in STATES
            }
            for trellis in ("least_error", "ungerboeck")
        },
        "least_error, 32 states, down the columns, by rows of a walk": {
            str(rows): measured(weight, f"down the columns, {rows} rows", down_columns(32, rows)) for rows in WALKS
        },
    }
    speeds = {f"tcq_{states}": search_seconds(partial(TrellisQuantiser, states)) for states in (8, 32, 64)}
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread, shared machine",
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/trellis.py",
        "samples": weight.numel(),
        "gaps by trellis and states": lines,
        "search": {
            **speeds,
            "tcq_32_ldlq": search_seconds(partial(TrellisLdlq, 32)),
            "tcq_32_columns": search_seconds(partial(TrellisColumns, 32)),
        },
    }
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
