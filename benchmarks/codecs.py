"""Bytes of trained checkpoints at equal distortion: every codec and the trellis quantisers; time of a 36-M artifact.

    python benchmarks/codecs.py demo=runs/demo/<stamp>/checkpoints/<step>/weights.safetensors other=final_model.pt
    python benchmarks/codecs.py --synthetic

Matrices are quantised to 6-bit SDClip rows (factor 12.85; tables as 8-bit rows, factor 20) and packed with every codec;
then with trellises (along the rows, down the columns with an identity Hessian) whose factor is chosen so that the mean
squared error of the matrices, each relative to its variance, is the same. Sizes are of whole artifacts without network
config and tokenizer. `code_bytes`: by how much the program that an export of the baseline ships (`code=packed`) is
longer with this codec than with none, encoder included; `decoder_bytes`: by how much the reader of artifacts is, when
both are packed the same way, without what only encoders need. The libraries of brotli and zpaq count nothing.
--synthetic packs normal weights in the shapes of an 11-layer record (512 wide, 8,192 tokens; 35.9 million) with
`range`: with independent columns, and with columns that share directions, which take longest, for all are predicted.
Every measurement runs in a process of its own, whose peak memory it reports.
Writes benchmarks/results/codecs.json; what was not asked for stays as it was.
"""

import argparse
import ast
import datetime
import json
import multiprocessing
import platform
import resource
import shlex
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import codec_named
from golf.quant.plan import QuantPlan
from golf.quant.state import same_state
from golf.quant.trellis import TrellisQuantiser
from golf.quant.trellis_columns import TrellisColumns
from golf.size import shipped_code
from golf.size.plan import composed
from golf.submission.pack import packed

ROOT = Path(__file__).resolve().parent.parent
CODECS = ("none", "zlib", "lzma", "zstd", "brotli", "grouped_brotli", "zpaq", "grouped_zpaq", "range")
TRELLISES = {"tcq_32": TrellisQuantiser, "tcq_32_columns": TrellisColumns}
SYNTHETIC_LAYERS = 11
SYNTHETIC_SHAPES = {
    "attn.c_q": (512, 512),
    "attn.c_k": (256, 512),
    "attn.c_v": (256, 512),
    "attn.proj": (512, 512),
    "mlp.fc": (2048, 512),
    "mlp.proj": (512, 2048),
}


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


def trellis_of_equal_distortion(state, roles, quantiser, wanted):
    """Error goes with the square of the step: two corrections suffice."""
    factor, equally = 12.85, {name: torch.eye(state[name].shape[1]) for name in roles if roles[name] == "matrix"}
    for _ in range(3):
        quantised = plan(quantiser(32, factor)).quantise(state, roles, equally)
        reached = distortion(state, roles, quantised)
        if abs(reached / wanted - 1.0) < 2e-3:
            break
        factor *= (wanted / reached) ** 0.5
    return quantised, factor, reached


def golf_imports(module):
    """Modules of golf that a module needs, itself included."""
    found, due = set(), [module]
    while due:
        name = due.pop()
        if name not in found:
            found.add(name)
            tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
            due += [n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module.startswith("golf.")]
    return found


def reachable(body, root):
    """The statements of a program that its definition `root` uses, if no codec ever encodes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            node.body = [n for n in node.body if getattr(n, "name", "") not in ("encode", "encode_parts")]
    defines = [
        {getattr(node, "name", None), *(t.id for t in getattr(node, "targets", ()) for t in ast.walk(t) if is_name(t))}
        for node in body
    ]
    used, due = set(), {root}
    while due:
        used |= due
        kept = [node for node, names in zip(body, defines) if names & used]
        due = {n.id for node in kept for n in ast.walk(node) if is_name(n)} - used
    imports = (ast.Import, ast.ImportFrom)
    return [node for node, names in zip(body, defines) if names & used or isinstance(node, imports)]


def is_name(node):
    return isinstance(node, ast.Name)


def source(modules):
    """The statements of modules, in one program."""
    trees = [ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text()) for name in sorted(modules)]
    return [n for t in trees for n in t.body if not (isinstance(n, ast.ImportFrom) and n.module.startswith("golf."))]


@cache
def shipped_bytes(codec):
    """Bytes of the packed program of a baseline with a codec."""
    config, _ = composed(["experiment=baseline", "hardware=h100x8", f"codec={codec}"])
    return shipped_code.code_bytes({**config, "code": "packed"})


@cache
def code_bytes(name):
    """Bytes of code that a file with this codec needs and one without does not: all of it, and what reading takes."""
    codec, reader = codec_named(name), golf_imports("golf.codec.artifact")
    reading = reachable(source(golf_imports(type(codec).__module__) - reader), type(codec).__name__)
    texts = ["\n".join(map(ast.unparse, body)) for body in (source(reader), source(reader) + reading)]
    without, decoder = (len(packed(text)) for text in texts)
    return shipped_bytes(name) - shipped_bytes("none"), decoder - without


def measured(quantised, name):
    """Pack and read once, in this process."""
    codec = codec_named(name)
    wall, cpu = time.perf_counter(), time.process_time()
    blob, sizes = artifact_bytes(quantised, {}, {}, codec)
    encode = {"encode_seconds": time.perf_counter() - wall, "encode_cpu_seconds": time.process_time() - cpu}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.golf"
        path.write_bytes(blob)
        wall, cpu = time.perf_counter(), time.process_time()
        artifact = read_artifact(path)
        decode = {"decode_seconds": time.perf_counter() - wall, "decode_cpu_seconds": time.process_time() - cpu}
    assert same_state(artifact.quantised.dequantise(), quantised.dequantise())
    seconds = {key: round(value, 2) for key, value in {**encode, **decode}.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"bytes": len(blob), **seconds, "peak_rss_mib": peak, "by_class": sizes}


def measure_and_send(sender, quantised, name):
    sender.send(measured(quantised, name))


def measure(quantised, name):
    """`measured` in a forked process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure_and_send, args=(sender, quantised, name))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    found["code_bytes"], found["decoder_bytes"] = code_bytes(name)
    print(
        f"  {name:15s} {found['bytes']:>10,} bytes (+{found['code_bytes']:,} code, {found['decoder_bytes']:,} reading)"
        f"  encode {found['encode_seconds']:.1f} s ({found['encode_cpu_seconds']:.1f} CPU)"
        f"  decode {found['decode_seconds']:.1f} s ({found['decode_cpu_seconds']:.1f} CPU)",
        flush=True,
    )
    return found


def margins(codecs):
    """Percent by which range is under zpaq and brotli, without code, with the decoder's and with all of it."""
    out = {}
    for other in ("zpaq", "brotli"):
        if other in codecs and "range" in codecs:
            counted = {
                "": ("bytes",),
                "_with_decoder": ("bytes", "decoder_bytes"),
                "_with_code": ("bytes", "code_bytes"),
            }
            for label, sizes in counted.items():
                ours, theirs = (sum(codecs[name][key] for key in sizes) for name in ("range", other))
                out[f"under_{other}{label}_percent"] = round(100.0 * (1.0 - ours / theirs), 2)
    print("   ", out, flush=True)
    return out


def synthetic_weights(mixed):
    """Normal weights whose columns have variances of their own or, `mixed`, common directions of different strength."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"tok_emb.weight": (8192, 512)}
    for layer in range(SYNTHETIC_LAYERS):
        shapes |= {f"blocks.{layer}.{name}.weight": shape for name, shape in SYNTHETIC_SHAPES.items()}
    if mixed:
        turns = {c: torch.linalg.qr(torch.randn(c, c, generator=generator))[0] for c in (512, 2048)}
        mixes = {c: turn * torch.logspace(0, -0.5, c)[:, None] for c, turn in turns.items()}
        return {n: 0.05 * torch.randn(*shape, generator=generator) @ mixes[shape[1]] for n, shape in shapes.items()}
    state = {}
    for name, (rows, columns) in shapes.items():
        spread = torch.exp(0.2 * torch.randn(columns, generator=generator))
        state[name] = 0.02 * spread * torch.randn(rows, columns, generator=generator)
    return state


def synthetic_results():
    out = {}
    for mixed, name in ((False, "int6_deviation_rows"), (True, "int6_deviation_rows"), (True, "tcq_32_columns")):
        state = synthetic_weights(mixed)
        roles = roles_by_shape(state)
        equally = {name: torch.eye(state[name].shape[1]) for name, role in roles.items() if role == "matrix"}
        matrix = TrellisColumns(32, 12.85) if name == "tcq_32_columns" else name
        started = time.process_time()
        quantised = plan(matrix).quantise(state, roles, equally)
        seconds = time.process_time() - started
        label = f"{'common directions' if mixed else 'independent columns'}, {name}"
        print(f"synthetic, {label}: quantised in {seconds:.1f} CPU s", flush=True)
        parameters = sum(tensor.numel() for tensor in state.values())
        out[label] = {"parameters": parameters, "codecs": {"range": measure(quantised, "range")}}
    return out


def checkpoint_results(path):
    state = load_weights(path)
    roles = roles_by_shape(state)
    scalar = plan("int6_deviation_rows").quantise(state, roles)
    wanted = distortion(state, roles, scalar)
    parameters = sum(tensor.numel() for tensor in state.values())
    out = {"parameters": parameters, "relative_distortion": wanted, "quantisers": {}}
    out["quantisers"]["int6_deviation_rows"] = {"codecs": {name: measure(scalar, name) for name in CODECS}}
    out["quantisers"]["int6_deviation_rows"] |= margins(out["quantisers"]["int6_deviation_rows"]["codecs"])
    for label, quantiser in TRELLISES.items():
        started = time.perf_counter()
        quantised, factor, reached = trellis_of_equal_distortion(state, roles, quantiser, wanted)
        seconds = time.perf_counter() - started
        print(
            f"  {label} factor {factor:.3f} distortion {reached / wanted:.4f} of scalar, {seconds:.1f} s",
            flush=True,
        )
        result = {"factor": factor, "relative_distortion": reached, "search_seconds": round(seconds, 1)}
        codecs = {name: measure(quantised, name) for name in ("brotli", "zpaq", "range")}
        out["quantisers"][label] = {**result, "codecs": codecs, **margins(codecs)}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", help="name=file (.safetensors or .pt)")
    parser.add_argument("--synthetic", action="store_true", help="also a synthetic artifact of 36 million weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "codecs.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for entry in arguments.checkpoints:
        name, _, path = entry.partition("=")
        print(name, flush=True)
        results[name] = checkpoint_results(path)
    synthetic = {"synthetic": synthetic_results()} if arguments.synthetic else {}
    shown = [f"{entry.partition('=')[0]}=<{Path(entry).name}>" for entry in arguments.checkpoints]
    output = Path(arguments.output)
    before = json.loads(output.read_text()) if output.exists() else {}
    how = {
        "hardware": f"{platform.processor() or platform.machine()}, {arguments.threads} thread(s), shared machine",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/codecs.py", *shown, *(["--synthetic"] if synthetic else [])]),
    }
    parts = {**results, **synthetic}
    report = {
        "measured": {**before.get("measured", {}), **dict.fromkeys(parts, how)},
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "checkpoints": {**before.get("checkpoints", {}), **results},
        **synthetic,
    }
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
