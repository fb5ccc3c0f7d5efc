"""Bytes of trained checkpoints at equal distortion: every codec and the trellis quantisers.

    python benchmarks/codecs.py demo=runs/demo/<stamp>/checkpoints/<step>/weights.safetensors other=final_model.pt

Matrices are quantised to 6-bit SDClip rows (factor 12.85; tables as 8-bit rows, factor 20) and packed with every codec;
then with trellises whose factor is chosen so that the mean squared error of the matrices, each relative to its
variance, is the same. Sizes are of whole artifacts without network config and tokenizer. Writes
benchmarks/results/codecs.json.
"""

import argparse
import datetime
import json
import platform
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import codec_named
from golf.quant.plan import QuantPlan
from golf.quant.state import same_state
from golf.quant.trellis import TrellisQuantiser

CODECS = ("none", "zlib", "lzma", "zstd", "brotli", "grouped_brotli", "zpaq", "grouped_zpaq", "range")
TRELLISES = (8, 32)


def load_weights(path):
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return {name: tensor.float() for name, tensor in load_file(path).items()}
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.float() for name, tensor in state.items()}


def roles_by_shape(state):
    large = {name for name, tensor in state.items() if tensor.ndim == 2 and tensor.numel() > 4096}
    return {n: ("embedding" if "emb" in n else "matrix") if n in large else "scalar" for n in state}


def plan(matrix):
    return QuantPlan(matrix, *["int8_deviation_rows"] * 3, "float16", "float16", "float16", small_numel=4096)


def distortion(state, roles, quantised):
    """Mean over all elements of matrices of the squared error in units of their tensor's variance."""
    error, count = 0.0, 0
    for name in (name for name in state if roles[name] == "matrix"):
        difference = quantised.tensors[name].dequantise().double() - state[name].double()
        error += float(difference.square().sum() / state[name].double().var())
        count += state[name].numel()
    return error / count


def trellis_of_equal_distortion(state, roles, states, wanted):
    """Error goes with the square of the step: two corrections suffice."""
    factor = 12.85
    for _ in range(3):
        quantised = plan(TrellisQuantiser(states, factor)).quantise(state, roles)
        reached = distortion(state, roles, quantised)
        if abs(reached / wanted - 1.0) < 2e-3:
            break
        factor *= (wanted / reached) ** 0.5
    return quantised, factor, reached


def measure(quantised, name):
    codec = codec_named(name)
    started = time.perf_counter()
    blob, sizes = artifact_bytes(quantised, {}, {}, codec)
    encoded = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.golf"
        path.write_bytes(blob)
        started = time.perf_counter()
        artifact = read_artifact(path)
        decoded = time.perf_counter() - started
    assert same_state(artifact.quantised.dequantise(), quantised.dequantise())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"    {name:15s} {len(blob):>10,} bytes  encode {encoded:5.1f} s  decode {decoded:5.1f} s", flush=True)
    seconds = {"encode_seconds": round(encoded, 2), "decode_seconds": round(decoded, 2)}
    return {"bytes": len(blob), **seconds, "peak_rss_mib_so_far": peak, "by_class": sizes}


def checkpoint_results(path):
    state = load_weights(path)
    roles = roles_by_shape(state)
    scalar = plan("int6_deviation_rows").quantise(state, roles)
    wanted = distortion(state, roles, scalar)
    parameters = sum(tensor.numel() for tensor in state.values())
    out = {"parameters": parameters, "relative_distortion": wanted, "quantisers": {}}
    out["quantisers"]["int6_deviation_rows"] = {"codecs": {name: measure(scalar, name) for name in CODECS}}
    for states in TRELLISES:
        started = time.perf_counter()
        quantised, factor, reached = trellis_of_equal_distortion(state, roles, states, wanted)
        seconds = time.perf_counter() - started
        print(
            f"  tcq_{states} factor {factor:.3f} distortion {reached / wanted:.4f} of scalar, {seconds:.1f} s",
            flush=True,
        )
        result = {"factor": factor, "relative_distortion": reached, "search_seconds": round(seconds, 1)}
        out["quantisers"][f"tcq_{states}"] = {
            **result,
            "codecs": {n: measure(quantised, n) for n in ("brotli", "range")},
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="name=file (.safetensors or .pt)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "codecs.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for entry in arguments.checkpoints:
        name, _, path = entry.partition("=")
        print(name, flush=True)
        results[name] = checkpoint_results(path)
    shown = [f"{entry.partition('=')[0]}=<{Path(entry).name}>" for entry in arguments.checkpoints]
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, {arguments.threads} thread(s), shared machine",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/codecs.py", *shown]),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "checkpoints": results,
    }
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
