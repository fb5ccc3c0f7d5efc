"""Mutated artifacts against the reader: every one must end in one line or in whole tensors, within 2 s and 2 GB.

    python benchmarks/fuzz_artifact.py --count 100000        (writes benchmarks/results/fuzz_artifact.json)

Three kinds of damage, on artifacts of every codec (one in fifty of a slow one): bytes flipped, cut, moved, inserted,
which the checksums notice; sections changed under a correct checksum; headers changed (shapes, sizes, names, kinds,
orders) and packed again.
"""

import argparse
import collections
import datetime
import json
import platform
import random
import resource
import shlex
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import codec_named
from golf.codec.container import container_bytes, read_header
from golf.errors import UserError
from golf.quant.plan import QuantPlan
from golf.quant.trellis import TrellisQuantiser

CODECS = ("none", "zlib", "zstd", "brotli", "grouped_brotli")
SLOW_CODECS = ("lzma", "range", "zpaq")
STRANGE = (-1, 0, 1, 2**31 - 1, 2**32 - 1, 2**40, 10**30, 1.5, True, None, "x", [], {}, [1], "parts", [[-1]])


def sample(codec):
    generator = torch.Generator().manual_seed(5)
    state = {f"blocks.{layer}.mlp.fc.weight": torch.randn(48, 32, generator=generator) for layer in range(2)}
    state["blocks.0.attn.c_q.weight"] = torch.randn(40, 32, generator=generator)
    state["tok_emb.weight"] = torch.randn(80, 24, generator=generator).bfloat16()
    state["skip_weights"] = torch.randn(3, 24, generator=generator)
    roles = dict.fromkeys(state, "matrix") | {"skip_weights": "scalar", "tok_emb.weight": "embedding"}
    plan = QuantPlan(small_numel=100, overrides={"attn": TrellisQuantiser(4)})
    return artifact_bytes(plan.quantise(state, roles), {"w": 1}, {}, codec_named(codec))[0]


def damage(data, chance):
    """Flip, cut, overwrite, insert, move."""
    data = bytearray(data)
    kind, place = chance.randrange(6), chance.randrange(max(1, len(data)))
    if kind == 0 and data:
        data[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        data[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
    elif kind == 3:
        for _ in range(chance.randrange(2, 50)):
            place = chance.randrange(max(1, len(data)))
            data[place : place + 1] = bytes([chance.randrange(256)])
    elif kind == 4:
        data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20)))
    else:
        second = chance.randrange(max(1, len(data)))
        data = data[second:] + data[:second]
    return bytes(data)


def with_strange_value(tree, chance):
    """Replace one value somewhere in a JSON tree."""
    if isinstance(tree, dict) and tree and chance.random() < 0.95:
        key = chance.choice(sorted(tree))
        if chance.random() < 0.05:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, key: with_strange_value(tree[key], chance)}
    if isinstance(tree, list) and tree and chance.random() < 0.95:
        place = chance.randrange(len(tree))
        if chance.random() < 0.05:
            return tree[:place] + tree[place + 1 :]
        return [with_strange_value(value, chance) if at == place else value for at, value in enumerate(tree)]
    return chance.choice(STRANGE)


def mutate(blob, codec, chance):
    kind = chance.choice(["bytes", "section", "header"])
    if kind == "bytes":
        return kind, damage(blob, chance)
    header, found, start = read_header(blob, codec_named, "sample")
    stored = []
    for length, _, _ in header["sections"]:
        stored.append(blob[start : start + length])
        start += length
    if kind == "section":
        place = chance.randrange(len(stored))
        stored[place] = damage(stored[place], chance)
        entry = header["sections"][place]
        header["sections"][place] = [len(stored[place]), entry[1], zlib.crc32(stored[place])]
    else:
        for _ in range(chance.randrange(1, 3)):
            changed = with_strange_value(header, chance)
            header = changed if isinstance(changed, dict) and "sections" in changed else header
    header.setdefault("sections", [])
    try:
        return kind, container_bytes(found, header, stored, struct.unpack_from("<H", blob, 4)[0])[0]
    except (UserError, TypeError, ValueError, LookupError):
        return "bytes", damage(blob, chance)


def fuzz(count, seed, folder, codecs=CODECS, slow=SLOW_CODECS):
    """Counts of outcomes, the longest time of one, and whatever was not as it should be."""
    samples = {codec: sample(codec) for codec in (*codecs, *slow)}
    chance = random.Random(seed)
    path = Path(folder) / "model.golf"
    outcomes, slowest, wrong = collections.Counter(), 0.0, []
    for _ in range(count):
        codec = chance.choice(slow if slow and chance.random() < 0.02 else codecs)
        kind, blob = mutate(samples[codec], codec, chance)
        path.write_bytes(blob)
        started = time.perf_counter()
        try:
            tensors = read_artifact(path).quantised.tensors
            outcome = "whole"
            if kind == "bytes" and blob != samples[codec]:
                wrong.append([codec, kind, "damage was not seen"])
            for stored in tensors.values():
                stored.dequantise()
        except UserError as error:
            outcome = "refused"
            if "\n" in str(error):
                wrong.append([codec, kind, "more than one line"])
        except Exception as error:
            outcome = "crashed"
            wrong.append([codec, kind, repr(error)[:200]])
        seconds = time.perf_counter() - started
        slowest = max(slowest, seconds)
        outcomes[f"{kind}: {outcome}"] += 1
    return outcomes, slowest, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "fuzz_artifact.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, slowest, wrong = fuzz(arguments.count, arguments.seed, folder)
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread, shared machine",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/fuzz_artifact.py", *sys.argv[1:]]),
        "mutated_artifacts": arguments.count,
        "outcomes": dict(sorted(outcomes.items())),
        "slowest_seconds": round(slowest, 3),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "seconds": round(time.perf_counter() - started),
        "wrong": wrong[:50],
    }
    print(json.dumps(report, indent=2))
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
