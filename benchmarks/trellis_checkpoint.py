"""What trellis-coded quantisation buys on trained checkpoints, in bytes and in bits per byte.

    python train.py experiment=demo through=train hydra.run.dir=runs/for_trellis
    python benchmarks/trellis_checkpoint.py demo=runs/for_trellis
    python benchmarks/trellis_checkpoint.py demo=runs/for_trellis \
        width128=<folder>/final_model.pt --tokens <folder of shards> --tokenizer <file>.model

Every quantiser of matrices is run at several steps (SDClip's factor), everything else is stored alike: 8-bit SDClip
tables, small tensors as float16. Bytes are those of whole artifacts without network config; delta BPB is the packed
network's score minus its score with float32 matrices (float32 arithmetic, contiguous windows of validation tokens).
Hessians come from training tokens. A quantiser's curve is read off, linearly between its points, where the reference
(6-bit SDClip rows, factor 12.85, brotli) has its bytes and its delta BPB. The .pt of the width-128 network comes with
an expected.json that says how it is built.

nncodec (PyPI, ISO/IEC 15938-17) is compared if --nncodec names a Python that can import it: its own quantiser and
DeepCABAC on the same matrices, with its dependent quantisation on; it has no place among golf's dependencies.
"""

import argparse
import datetime
import itertools
import json
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from golf.codec.artifact import artifact_bytes
from golf.codec.catalogue import codec_named
from golf.data.dataset import open_folder
from golf.data.shards import Shards
from golf.evaluation.bpb import bits_per_byte
from golf.loading import load
from golf.models.roles import roles_of
from golf.quant.formats import deviation_rows
from golf.quant.gptq import Gptq
from golf.quant.hessian import collect_hessians
from golf.quant.plan import QuantPlan
from golf.quant.trellis import TrellisQuantiser
from golf.quant.trellis_columns import TrellisColumns
from golf.quant.trellis_ldlq import TrellisLdlq

FACTORS = (9.0, 12.85, 18.0, 25.0, 34.0)
QUANTISERS = {
    "int6_sdclip": lambda factor: deviation_rows(6 if factor >= 10 else 7, factor),
    "int6_gptq": lambda factor: Gptq(6 if factor >= 10 else 7, factor),
    "tcq_8": lambda factor: TrellisQuantiser(8, factor),
    "tcq_32": lambda factor: TrellisQuantiser(32, factor),
    "tcq_32_ldlq": lambda factor: TrellisLdlq(32, factor),
    "tcq_32_columns": lambda factor: TrellisColumns(32, factor),
}
REFERENCE = ("int6_sdclip", "brotli", 12.85)
NNCODEC_QPS = (-32, -30, -28, -26, -24, -22, -20, -18)
NNCODEC_CHILD = """
import sys, numpy as np
from nncodec import nnc
source, target, *qps = sys.argv[1:]
tensors = {name: array for name, array in np.load(source).items()}
out = {}
for qp in qps:
    stream = nnc.compress(dict(tensors), qp=int(qp), use_dq=True, bitstream_path=target + ".nnc", return_bitstream=True)
    out["bytes" + qp] = np.array(len(stream))
    out |= {qp + "/" + name: value for name, value in nnc.decompress(stream).items()}
np.savez(target, **out)
"""


def open_checkpoint(path, arguments):
    """(network in float32, training tokens, validation tokens, byte table, tokens per window)."""
    if path.is_dir():
        net = load(path)
        place = json.loads((path / "data.json").read_text())
        folder, tokenizer, seq_len = place["folder"], place["tokenizer"], net.seq_len
    else:
        from golf.interop.upstream import build_upstream_model

        told = json.loads(path.with_name("expected.json").read_text())
        settings = {**told["model"], "mlp_activation": told["model"]["mlp_activation"].split(" ")[0]}
        state = torch.load(path, map_location="cpu", weights_only=True)
        net = build_upstream_model({name: tensor.float() for name, tensor in state.items()}, settings)
        folder, tokenizer, seq_len = arguments.tokens, arguments.tokenizer, told["eval"]["seq_len"]
    net.compute_dtype = torch.float32
    prepared = open_folder(folder, tokenizer)
    train = Shards(prepared.train_paths).read(0, 0, arguments.calibration_tokens)
    return net.float().eval(), train, prepared.validation_tokens(), prepared.tokenizer().byte_table(), seq_len


def windows(tokens, count, seq_len):
    rows = count // seq_len
    ids = torch.from_numpy(np.asarray(tokens[: rows * seq_len + 1]).astype(np.int64))
    return ids[:-1].view(rows, seq_len), ids[1:].view(rows, seq_len)


@torch.no_grad()
def bpb(net, inputs, targets, table):
    nats = sum(float(net.eager(x, y, "none").double().sum()) for x, y in zip(inputs.split(32), targets.split(32)))
    sizes = table.count(inputs.reshape(-1).numpy(), targets.reshape(-1).numpy())
    return bits_per_byte(nats, int(sizes.sum()))


def plan(matrix):
    tables = ["int8_deviation_rows"] * 3
    return QuantPlan(matrix, *tables, "float16", "float16", "float16", small_numel=8192)


class Scored:
    """One checkpoint and what all measurements on it share."""

    def __init__(self, path, arguments):
        self.net, train, val, self.table, seq_len = open_checkpoint(path, arguments)
        self.roles = roles_of(self.net)
        self.state = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self.inputs, self.targets = windows(val, arguments.score_tokens, seq_len)
        self.hessians = collect_hessians(self.net, windows(train, len(train) - 1, seq_len)[0].split(48))
        self.plain = bpb(self.net, self.inputs, self.targets, self.table)
        self.base = 0.0
        self.base = self.delta(plan("float32").quantise(self.state, self.roles).dequantise())

    def delta(self, weights):
        self.net.load_state_dict(weights, strict=False)
        scored = bpb(self.net, self.inputs, self.targets, self.table)
        self.net.load_state_dict(self.state, strict=False)
        return scored - self.plain - self.base

    def measured(self, treatment, codecs):
        """{codec: bytes}, delta BPB and search seconds of one treatment of the matrices."""
        started = time.process_time()
        quantised = plan(treatment).quantise(self.state, self.roles, self.hessians)
        seconds = time.process_time() - started
        sizes = {codec: len(artifact_bytes(quantised, {}, {}, codec_named(codec))[0]) for codec in codecs}
        return sizes, self.delta(quantised.dequantise()), seconds

    def matrices(self):
        chosen = plan("float32")
        return {
            name: self.state[name]
            for name, route in chosen.routes(self.state, self.roles).items()
            if route == "float32"
        }


def curves_of(scored, factors):
    """{(quantiser, codec): points}."""
    curves = {}
    for name, make in QUANTISERS.items():
        codecs = ("range",) if name.startswith("tcq") else ("brotli", "range")
        for factor in factors:
            sizes, delta, seconds = scored.measured(make(factor), codecs)
            for codec, size in sizes.items():
                point = {"factor": factor, "bytes": size, "delta_bpb": delta, "search_cpu_seconds": round(seconds, 1)}
                curves.setdefault(f"{name}+{codec}", []).append(point)
            print(f"  {name:12s} factor {factor:5.2f} delta {delta:+.5f} {sizes}", flush=True)
    return curves


def nncodec_curve(scored, python):
    """The same matrices through nncodec, everything else as in the other artifacts (bytes of a range artifact)."""
    matrices = scored.matrices()
    rest = {name: tensor for name, tensor in scored.state.items() if name not in matrices}
    kept = plan("int8_deviation_rows").quantise(rest, scored.roles)
    fixed = len(artifact_bytes(kept, {}, {}, codec_named("range"))[0])
    points = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/in.npz", f"{folder}/out.npz"
        np.savez(source, **{name: tensor.numpy() for name, tensor in matrices.items()})
        command = [python, "-c", NNCODEC_CHILD, source, target, *map(str, NNCODEC_QPS)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = np.load(target)
        for qp in NNCODEC_QPS:
            decoded = {name: torch.from_numpy(found[f"{qp}/{name}"]) for name in matrices}
            delta = scored.delta({**kept.dequantise(), **decoded})
            size = fixed + int(found[f"bytes{qp}"])
            points.append({"qp": qp, "bytes": size, "delta_bpb": delta})
            print(f"  nncodec qp {qp} delta {delta:+.5f} bytes {size:,}", flush=True)
    return points


def read_off(points, given, wanted, value):
    """`wanted` where a curve passes `given` = value, linearly between its points; None outside them."""
    ordered = sorted(points, key=lambda point: point[given])
    for low, high in itertools.pairwise(ordered):
        if low[given] <= value <= high[given]:
            share = (value - low[given]) / max(high[given] - low[given], 1e-12)
            return low[wanted] + share * (high[wanted] - low[wanted])
    return None


def compared(curves):
    """Each curve against the reference point."""
    name, codec, factor = REFERENCE
    base = next(point for point in curves[f"{name}+{codec}"] if point["factor"] == factor)
    out = {}
    for key, points in curves.items():
        size = read_off(points, "delta_bpb", "bytes", base["delta_bpb"])
        delta = read_off(points, "bytes", "delta_bpb", base["bytes"])
        out[key] = {
            "bytes_at_equal_delta_bpb": size and round(size),
            "bytes_saved": size and round(base["bytes"] - size),
            "delta_bpb_at_equal_bytes": delta,
        }
        print(f"  {key:22s} {out[key]}", flush=True)
    return {"reference": {"bytes": base["bytes"], "delta_bpb": base["delta_bpb"]}, "curves": out}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="name=run folder, or name=.pt with its expected.json")
    parser.add_argument("--tokens", help="folder of shards for a .pt")
    parser.add_argument("--tokenizer", help="tokenizer of those shards")
    parser.add_argument("--score-tokens", type=int, default=65_536)
    parser.add_argument("--calibration-tokens", type=int, default=131_072)
    parser.add_argument("--nncodec", help="a Python that can import nncodec")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "trellis_checkpoint.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for entry in arguments.checkpoints:
        name, _, path = entry.partition("=")
        scored = Scored(Path(path), arguments)
        parameters = sum(tensor.numel() for tensor in scored.state.values())
        print(f"{name}: {parameters:,} parameters, {scored.plain:.5f} bpb", flush=True)
        curves = curves_of(scored, arguments.factors)
        curves |= {"nncodec": nncodec_curve(scored, arguments.nncodec)} if arguments.nncodec else {}
        head = {"parameters": parameters, "bpb": scored.plain, "scored_tokens": scored.targets.numel()}
        results[name] = {**head, **compared(curves), "points": curves}
    shown = [f"{entry.partition('=')[0]}=<{Path(entry.partition('=')[2]).name}>" for entry in arguments.checkpoints]
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, {arguments.threads} thread(s), shared machine",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/trellis_checkpoint.py", *shown]),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "nncodec": "compared" if arguments.nncodec else "not compared: type --nncodec=<a Python that can import it>",
        "checkpoints": results,
    }
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
