"""What mixed_by_sensitivity buys over 6 bits everywhere, at equal bytes, on a trained run.

    python train.py experiment=demo through=average hydra.run.dir=runs/for_mixed
    python benchmarks/mixed_precision.py runs/for_mixed        (writes benchmarks/results/mixed_precision.json)

Both are GPTQ with a clip search per matrix and the same Hessians (training tokens); everything but matrices is stored
alike. Bytes are those of whole packed artifacts; delta BPB is the loss over float weights on the end of the training
split, which calibration has not read (contiguous windows). The mixed curve, one point per average number of bits, is
read off, linearly between its points, at the bytes of int6. One run and one slice: no confidence interval.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from golf.codec.artifact import artifact_bytes
from golf.codec.catalogue import codec_named
from golf.config.build import build
from golf.config.compose import compose
from golf.models.exported import exported_network, exported_state
from golf.models.roles import roles_of
from golf.pipeline.calibrate import collect
from golf.pipeline.run_folder import open_run_folder
from golf.pipeline.training_slice import TrainingSlice
from golf.quant.calibration_ledger import CalibrationLedger

RESULT = Path(__file__).resolve().parent / "results" / "mixed_precision.json"
AVERAGE_BITS = (5.25, 5.5, 5.75, 6.0, 6.25)


def plans(small_numel):
    """Name -> plan: int6, then the mixed ones."""
    node = compose("train", ["experiment=demo", "quant=mixed_by_sensitivity"])["quant"] | {"small_numel": small_numel}
    yield "int6", None, build(node | {"mixed": None})
    for bits in AVERAGE_BITS:
        yield f"mixed {bits:g}", bits, build(node | {"mixed": node["mixed"] | {"average_bits": bits}})


def bits_by_class(state):
    """How many matrices got how many bits."""
    counts = {}
    for name, stored in state.tensors.items():
        bits = getattr(getattr(stored, "format", None), "bits", None)
        if bits is not None and state.classes[name] in ("attention", "mlp"):
            counts[f"{state.classes[name]} int{bits}"] = counts.get(f"{state.classes[name]} int{bits}", 0) + 1
    return dict(sorted(counts.items()))


def measured(arguments):
    run = open_run_folder(arguments.run)
    config = {**run.config, "hardware": {**run.config["hardware"], "threads": 1}}
    weights = run.path / "stages" / "average" / "weights.safetensors"
    calibration = compose("train", ["experiment=demo", "quant=mixed_by_sensitivity"])["quant"]["calibration"]
    source = build(calibration | {"batches": arguments.batches, "rows": arguments.rows})
    hessians = collect(run, config, source, weights, CalibrationLedger(0.0))
    ruler, loaded = TrainingSlice(run, config, arguments.tokens), load_file(weights)
    net, codec = build(config["model"]), codec_named(arguments.codec)
    state, roles = exported_state(net, loaded), roles_of(net)
    base, points = ruler.bpb(loaded), []
    for name, bits, plan in plans(arguments.small_numel):
        started = time.process_time()
        found = plan.quantise(state, roles, hessians)
        size = len(artifact_bytes(found, exported_network(config["model"]), {}, codec)[0])
        delta = ruler.bpb({**loaded, **found.dequantise()}) - base
        point = {"plan": name, "average_bits": bits, "bytes": size, "delta_bpb": round(delta, 6)}
        points.append(
            point | {"matrices": bits_by_class(found), "cpu_seconds": round(time.process_time() - started, 1)}
        )
        print(points[-1], flush=True)
    return {"scored_on": ruler.label, "bpb": round(base, 6), "points": points, "at_equal_bytes": at_equal_bytes(points)}


def at_equal_bytes(points):
    """Delta BPB of both where they have the bytes of int6; None if the mixed curve does not reach them."""
    (reference, *mixed) = points
    mixed = sorted(mixed, key=lambda point: point["bytes"])
    sizes, deltas = ([point[key] for point in mixed] for key in ("bytes", "delta_bpb"))
    if not sizes[0] <= reference["bytes"] <= sizes[-1]:
        return None
    other = float(np.interp(reference["bytes"], sizes, deltas))
    return {
        "bytes": reference["bytes"],
        "int6_delta_bpb": reference["delta_bpb"],
        "mixed_delta_bpb": round(other, 6),
        "gain_bpb": round(reference["delta_bpb"] - other, 6),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--tokens", type=int, default=65_536, help="scored, from the end of the training split")
    parser.add_argument("--batches", type=int, default=16, help="of the calibration")
    parser.add_argument("--rows", type=int, default=8, help="of each")
    parser.add_argument("--codec", default="brotli")
    parser.add_argument("--small-numel", type=int, default=8192, help="matrices with more elements are quantised")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread",
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python benchmarks/mixed_precision.py <run>", *sys.argv[2:]]),
        "trained": {key: open_run_folder(arguments.run).config[key] for key in ("name", "seed", "budget")},
        **measured(arguments),
    }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
