"""Distance to the rate-distortion bound of a Gaussian source, from the bytes of real files.

    python benchmarks/trellis.py            (2^20 samples; writes benchmarks/results/trellis.json)

gap = 8 · bytes of the file / samples - 1/2 · log2(variance / mean squared error), header, scales and all.
"""

import argparse
import datetime
import json
import math
import platform
import time
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes
from golf.codec.catalogue import codec_named
from golf.quant.formats import deviation_rows
from golf.quant.rtn import quantise_rows
from golf.quant.state import QuantisedState
from golf.quant.trellis import TrellisQuantiser


def measured(weight, states):
    started = time.process_time()
    quantise = TrellisQuantiser(states).convert if states else None
    stored = quantise("w", weight) if quantise else quantise_rows(weight, deviation_rows(6, 12.85))
    seconds = time.process_time() - started
    size = len(artifact_bytes(QuantisedState({"w": stored}, {"w": "other"}), {}, {}, codec_named("range"))[0])
    error = float((stored.dequantise().double() - weight.double()).square().mean())
    rate = 8 * size / weight.numel()
    gap = rate - 0.5 * math.log2(float(weight.double().var()) / error)
    line = {"bytes": size, "bits_per_weight": round(rate, 4), "mean_squared_error": error, "gap_bits": round(gap, 4)}
    print(f"states {states:3d}: {rate:.4f} bit, gap {gap:.4f}, search {seconds:.1f} CPU s", flush=True)
    return {**line, "search_cpu_seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "trellis.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weight = torch.randn(64, 16_384, generator=torch.Generator().manual_seed(0))
    lines = {str(states): measured(weight, states) for states in (0, 4, 8, 16, 32, 64, 128, 256)}
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread, shared machine",
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/trellis.py",
        "samples": weight.numel(),
        "states (0: rounding)": lines,
    }
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
