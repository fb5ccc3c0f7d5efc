"""Mutated artifacts against the reader: each ends in one line or in whole tensors, within 2 s and 2 GB, no code run.

    python benchmarks/fuzz_artifact.py --count 100000        (writes benchmarks/results/fuzz_artifact.json)

The artifacts: rounded (int6 rows, int4 groups, fp8, fp16), GPTQ with low-rank corrections, two factors, both ternary
packings, trellis codes both ways, with every codec. The damage: bytes flipped, cut, moved, inserted, which the
checksums notice; and, under correct checksums, sections changed, sections and directory entries in another order, huge
sizes declared, sections that expand to far more than they declare, any value of the header replaced. Python's audit
events tell whether reading ran code, started a process (but the bounded one that expands ZPAQ streams) or wrote a file.
Seconds are processor time, children included (other work may share the machine).
"""

import argparse
import collections
import datetime
import faulthandler
import json
import platform
import random
import resource
import shlex
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import torch

from golf.codec.artifact import artifact_bytes, read_artifact
from golf.codec.catalogue import CODECS, codec_named
from golf.codec.container import container_bytes, read_header
from golf.codec.zpaq_codec import ZPAQ_CHILD
from golf.errors import UserError
from golf.quant.factored import LowRankFactors
from golf.quant.formats import format_named
from golf.quant.gptq import Gptq
from golf.quant.lowrank import LowRankCorrection
from golf.quant.plan import QuantPlan
from golf.quant.ternary_packing import TernaryGroups
from golf.quant.trellis import TrellisQuantiser
from golf.quant.trellis_columns import TrellisColumns

# How many of the mutated artifacts, per cent, are packed with a codec; zpaq takes a third of a second for each.
SHARES = {"none": 20, "zlib": 20, "brotli": 20, "grouped_brotli": 17.5, "zstd": 12, "lzma": 5, "range": 5}
LARGE_FOR = ("range", "grouped_brotli")  # codecs that also get the state "large"
SHARES |= {"zpaq": 0.25, "grouped_zpaq": 0.25}
KINDS = ("bytes", "section", "order", "sizes", "header", "bomb")
KIND_SHARES = (30, 25, 10, 10, 24, 1)
STRANGE = (-1, 0, 1, 2**31 - 1, 2**32 - 1, 2**40, 10**30, 1.5, True, None, "x", [], {}, [1], "parts", [[-1]])
HUGE = (2**16, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 10**30)
BOMB_BYTES = 16 << 20  # what a section of a "bomb" expands to
LIMIT_SECONDS, LIMIT_MIB = 2.0, 2048
CODE_EVENTS = ("exec", "compile", "import", "marshal.loads", "pickle.find_class", "os.system", "os.exec", "os.fork")
ZPAQ_COMMAND = [sys.executable, "-I", "-S", "-c", ZPAQ_CHILD]
CODE_EVENTS += ("os.posix_spawn", "subprocess.Popen", "socket.connect", "ctypes.dlopen")


def states():
    """Quantised states of every kind of stored tensor: name -> QuantisedState."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    state = {f"blocks.{layer}.mlp.fc.weight": normal(32, 24) for layer in range(2)}
    state |= {"blocks.0.attn.c_q.weight": normal(24, 24), "skip_weights": normal(3, 24)}
    state["tok_emb.weight"] = normal(40, 24).bfloat16()
    roles = dict.fromkeys(state, "matrix") | {"skip_weights": "scalar", "tok_emb.weight": "embedding"}
    inputs = {name: normal(100, 24) for name in state}
    hessians = {name: x.T @ x for name, x in inputs.items()}
    rounded = {"attn": format_named("int4_groups"), "mlp": format_named("fp8_e4m3"), "blocks.0.mlp": "int6_rows"}
    plans = {
        "rounded": QuantPlan(small_numel=100, overrides={**rounded, "tok_emb": "float16"}),
        "gptq": QuantPlan(Gptq(), Gptq(8, 20.0), small_numel=100, correction=LowRankCorrection(2, 2, 24)),
        "ternary": QuantPlan(
            TernaryGroups(16, "base3"), small_numel=100, overrides={"fc": TernaryGroups(16, "bitmask")}
        ),
        "trellis": QuantPlan(TrellisQuantiser(4), small_numel=100, overrides={"attn": LowRankFactors(4)}),
    }
    found = {name: plan.quantise(state, roles, hessians) for name, plan in plans.items()}
    large = {f"blocks.{layer}.mlp.fc.weight": normal(128, 32) for layer in range(2)}  # an entropy coder's sections
    large |= {"tok_emb.weight": normal(40, 24).bfloat16()}
    plan = QuantPlan(Gptq(), small="bfloat16", small_numel=1000, overrides={"1.mlp": TrellisColumns(4, walk_rows=32)})
    return found | {
        "large": plan.quantise(large, dict.fromkeys(large, "matrix"), {"blocks.1.mlp.fc.weight": torch.eye(32)})
    }


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


def with_value(tree, chance, values):
    """Replace one value somewhere in a JSON tree by one of `values`, or leave it out."""
    if isinstance(tree, dict) and tree and chance.random() < 0.95:
        key = chance.choice(sorted(tree))
        if chance.random() < 0.05:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, key: with_value(tree[key], chance, values)}
    if isinstance(tree, list) and tree and chance.random() < 0.95:
        place = chance.randrange(len(tree))
        if chance.random() < 0.05:
            return tree[:place] + tree[place + 1 :]
        return [with_value(value, chance, values) if at == place else value for at, value in enumerate(tree)]
    return chance.choice(values)


def with_huge_size(header, chance):
    """One declared size far too large: of a section, or of a tensor's shape (and then of its section, too)."""
    header = json.loads(json.dumps(header))
    huge = chance.choice(HUGE)
    if chance.random() < 0.3:
        chance.choice(header["sections"])[chance.randrange(2)] = huge
        return header
    _, group, shape = chance.choice(chance.choice(header["tensors"])[3])
    if not shape:
        shape.append(huge)
    else:
        shape[chance.randrange(len(shape))] = huge
    if chance.random() < 0.7:
        header["sections"][group][1] = chance.choice([huge, min(huge, 2**29), min(huge * shape[-1], 2**32 - 1)])
    return header


def in_another_order(header, stored, chance):
    """Two sections, their directory entries, tensors, groups, specs or layouts change places."""
    header, stored = json.loads(json.dumps(header)), list(stored)
    found = [header[key] for key in ("sections", "tensors", "groups", "specs", "layouts") if len(header[key]) > 1]
    found = [part for part in found if isinstance(part, list)]
    targets = chance.choice([[stored], [stored, header["sections"]], [chance.choice(found)]])
    first, second = chance.sample(range(min(map(len, targets))), 2)
    for target in targets:
        target[first], target[second] = target[second], target[first]
    if targets[0] is stored and len(targets) == 1:  # bytes that are not the directory's, with sums that are theirs
        for entry, piece in zip(header["sections"], stored):
            entry[0], entry[2] = len(piece), zlib.crc32(piece)
    return header, stored


def cpu_seconds():
    """Processor time of this process and of those it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Fuzzer:
    """Artifacts of every state and codec, and what came of reading mutations of them."""

    def __init__(self, seed, folder, shares):
        self.chance, self.shares = random.Random(seed), shares
        found = states()
        self.samples = {
            (name, codec): artifact_bytes(state, {"w": 1}, {}, codec_named(codec))[0]
            for codec in shares
            for name, state in found.items()
            if name != "large" or codec in LARGE_FOR
        }
        self.bombs = {codec: self.bomb(codec) for codec in shares}
        self.path = Path(folder) / "model.golf"
        self.outcomes, self.by_codec = collections.Counter(), collections.Counter()
        self.slowest, self.wrong = dict.fromkeys(shares, 0.0), []
        self.armed, self.events = False, []
        for sample in self.samples.values():  # imports and caches happen here
            self.path.write_bytes(sample)
            for stored in read_artifact(self.path).quantised.tensors.values():
                stored.dequantise()
        self.path.write_bytes(b"x")
        sys.addaudithook(self.listen)

    def bomb(self, codec):
        """Bytes that expand to BOMB_BYTES where the codec can be made to (1 MiB for zpaq, which is slow)."""
        size = BOMB_BYTES if "zpaq" not in codec else (1 << 20) - 4096  # the model of small blocks
        return codec_named(codec).encode(bytes(size if codec != "none" else 1 << 20))

    def listen(self, event, arguments):
        if event == "subprocess.Popen" and list(arguments[1])[:5] == ZPAQ_COMMAND:
            return  # the bounded process that expands a ZPAQ stream
        if event == "open" and type(arguments[0]) is int:
            return  # a pipe to it
        if self.armed and (event in CODE_EVENTS or (event == "open" and set(str(arguments[1] or "")) & set("wax+"))):
            self.events.append(f"{event} {arguments[:1]!r}"[:120])

    def mutate(self, kind, blob):
        chance = self.chance
        if kind == "bytes":
            return damage(blob, chance)
        header, codec, start = read_header(blob, codec_named, "sample")
        stored = []
        for length, _, _ in header["sections"]:
            stored.append(blob[start : start + length])
            start += length
        if kind in ("section", "bomb"):
            place = chance.randrange(len(stored))
            stored[place] = (
                damage(stored[place], chance) if kind == "section" else self.bombed(codec.name, stored[place])
            )
            entry = header["sections"][place]
            header["sections"][place] = [len(stored[place]), entry[1], zlib.crc32(stored[place])]
        elif kind == "order":
            header, stored = in_another_order(header, stored, chance)
        elif kind == "sizes":
            header = with_huge_size(header, chance)
        else:
            for _ in range(chance.randrange(1, 3)):
                changed = with_value(header, chance, STRANGE)
                header = changed if isinstance(changed, dict) and "sections" in changed else header
        try:
            return container_bytes(codec, header, stored, struct.unpack_from("<H", blob, 4)[0])[0]
        except (UserError, TypeError, ValueError, LookupError):
            return self.with_prefix_sizes(blob)

    def bombed(self, codec, piece):
        """A section that is, or ends in, a stream of far more than it declares."""
        bomb = self.bombs[codec]
        choices = [bomb, piece[:1] + bomb, piece[:9] + bomb]
        if codec == "zpaq":  # the size in front of a block is honest, the block is not
            choices.append(piece[:5] + bomb[5:])
        return self.chance.choice(choices)

    def with_prefix_sizes(self, blob):
        """The header's own declared sizes, under a correct checksum of what comes before the header."""
        start = 7 + blob[6]
        stored, raw, _ = struct.unpack_from("<III", blob, start)
        if self.chance.random() < 0.5:
            raw = self.chance.choice(HUGE) % 2**32
        else:
            stored = self.chance.choice(HUGE) % 2**32
        prefix = blob[:start] + struct.pack("<II", stored, raw)
        packed = blob[start + 12 : start + 12 + stored]
        return prefix + struct.pack("<I", zlib.crc32(packed, zlib.crc32(prefix))) + blob[start + 12 :]

    def read(self, codec, kind, changed):
        """Read the file once; returns the outcome."""
        try:
            artifact = read_artifact(self.path)
            for stored in artifact.quantised.tensors.values():
                stored.dequantise()
        except UserError as error:
            if "\n" in str(error) or str(self.path) not in str(error):
                self.wrong.append([codec, kind, f"not one line that names the file: {error}"[:200]])
            return "refused"
        except Exception as error:
            self.wrong.append([codec, kind, repr(error)[:200]])
            return "crashed"
        if kind == "bytes" and changed:
            self.wrong.append([codec, kind, "damage was not seen"])
        if sum(artifact.sizes.values()) != self.path.stat().st_size:
            self.wrong.append([codec, kind, "read in part"])
        return "whole"

    def run(self, count):
        names = {codec: sorted(name for name, other in self.samples if other == codec) for codec in self.shares}
        codecs = self.chance.choices(list(self.shares), list(self.shares.values()), k=count)
        for number, codec in enumerate(codecs):
            name, kind = self.chance.choice(names[codec]), self.chance.choices(KINDS, KIND_SHARES)[0]
            sample = self.samples[name, codec]
            blob = self.mutate(kind, sample)
            self.path.write_bytes(blob)
            faulthandler.dump_traceback_later(120, exit=True)
            started, self.armed = cpu_seconds(), True
            outcome = self.read(codec, kind, blob != sample)
            self.armed, seconds = False, cpu_seconds() - started
            faulthandler.cancel_dump_traceback_later()
            if seconds > LIMIT_SECONDS:
                self.wrong.append([codec, kind, f"{seconds:.2f} s"])
            if self.events:
                self.wrong.append([codec, kind, f"ran {self.events[0]}"])
                self.events.clear()
            self.slowest[codec] = max(self.slowest[codec], seconds)
            self.outcomes[f"{kind}: {outcome}"] += 1
            self.by_codec[codec] += 1
            if number % 1000 == 999:
                print(f"{number + 1:,} of {count:,}, {len(self.wrong)} wrong", file=sys.stderr, flush=True)
        return self


def fuzz(count, seed, folder, shares=SHARES):
    """A Fuzzer after `count` mutated artifacts."""
    return Fuzzer(seed, folder, shares).run(count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codecs", help="comma-separated; default: all")
    parser.add_argument("--add", action="store_true", help="add this run to those that the output already holds")
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "fuzz_artifact.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faulthandler.enable()
    chosen = arguments.codecs.split(",") if arguments.codecs else list(SHARES)
    assert {codec.name for codec in CODECS} == set(SHARES), "a codec without a share"
    started = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        done = fuzz(arguments.count, arguments.seed, folder, {codec: SHARES[codec] for codec in chosen})
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage.ru_maxrss for usage in usages) // 1024
    if peak > LIMIT_MIB:
        done.wrong.append(["all", "memory", f"{peak} MiB"])
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, 1 thread, shared machine",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/fuzz_artifact.py", *sys.argv[1:]]),
        "mutated_artifacts": arguments.count,
        "by_codec": dict(sorted(done.by_codec.items())),
        "outcomes": dict(sorted(done.outcomes.items())),
        "slowest_cpu_seconds": {codec: round(seconds, 3) for codec, seconds in sorted(done.slowest.items())},
        "peak_rss_mib": peak,
        "cpu_seconds": round(cpu_seconds() - started),
        "wrong": done.wrong[:50],
    }
    output = Path(arguments.output)
    runs = [*(json.loads(output.read_text())["runs"] if arguments.add and output.is_file() else []), report]
    totals = {"mutated_artifacts": sum(run["mutated_artifacts"] for run in runs)}
    totals |= {"wrong": sum(len(run["wrong"]) for run in runs)}
    print(json.dumps(report, indent=2))
    output.write_text(json.dumps({**totals, "runs": runs}, indent=2) + "\n")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
