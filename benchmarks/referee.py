"""What the referee costs: on an evaluation itself, and as a whole audit of a 36-M-parameter network on a CPU.

    python benchmarks/referee.py                         (all parts; about five minutes on two quiet cores)
    python benchmarks/referee.py --parts lora,overhead   (some; the others stay in the result as they were)

The network is that of a record with random weights (every part contributes), packed as an artifact beside a synthetic
validation split of its vocabulary. Parts: `file`, `sliding`, `sgd`, `lora`, `phased`: CPU seconds of `golf audit`, its
child processes included, for the artifact under that protocol, and what each rule took. `overhead`: CPU seconds of
golf's evaluation (session, rows, ledger, hashes, record) outside of the network's forward passes, over those inside:
every batch is its own pair, so the machine's noise hits both. What is once per evaluation (hashes) is told apart: it
does not grow with the split. `bare`: the same evaluation against a bare loop, in pairs of alternating order (slow).
Every part is written to benchmarks/results/referee.json when it is done.
"""

import argparse
import datetime
import json
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from golf.codec.artifact import pack
from golf.codec.catalogue import codec_named
from golf.config.build import build
from golf.config.compose import compose
from golf.data.bytes import uniform_byte_table
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.fingerprint import state_checksum, state_sha256
from golf.evaluation.protocol import evaluate
from golf.evaluation.sliding import Sliding
from golf.models.roles import roles_of
from golf.rules.audit import audit
from golf.rules.profile import load_profile
from golf.rules.subject import open_subject

LENGTH, BATCH = 512, 8
PROTOCOLS = {
    "file": [],
    "sliding": ["eval=sliding"],
    "sgd": ["eval=adaptive", "ttt=sgd"],
    "lora": ["eval=adaptive", "ttt=lora"],
    "phased": ["eval=adaptive", "ttt=phased"],
}


def cpu_seconds():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in (own, children))


def network(experiment):
    """The record's network with weights that hide nothing, and its node."""
    node = compose("train", [f"experiment={experiment}", "hardware.compute_dtype=float32"])["model"]
    torch.manual_seed(0)
    net = build(node)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return net.eval(), node


class Timed(torch.nn.Module):
    """A network that adds up the CPU seconds of its forward passes."""

    def __init__(self, net):
        super().__init__()
        self.net, self.vocab_size, self.seconds, self.passes = net, net.vocab_size, 0.0, 0

    def forward(self, *arguments, **named):
        return self.timed(self.net, *arguments, **named)

    def nll_at(self, *arguments):
        return self.timed(self.net.nll_at, *arguments)

    def timed(self, call, *arguments, **named):
        begun = time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            self.seconds += time.process_time() - begun
            self.passes += 1


def stream(net, rows):
    return np.random.default_rng(0).integers(2, net.vocab_size, rows * LENGTH + 1).astype(np.uint16)


def overhead(net, rounds, rows):
    """CPU seconds of golf's evaluation outside of the forward passes over those inside, round by round."""
    tokens, table = stream(net, rows), uniform_byte_table(net.vocab_size)
    found = {}
    for evaluator in (Contiguous(LENGTH), Sliding(LENGTH, 64)):
        split = tokens if evaluator.name == "contiguous" else tokens[: LENGTH + 64 * rows + 1]
        ratios, once, inside = [], [], []
        for number in range(rounds + 1):
            timed = Timed(net)
            begun = time.process_time()
            result = evaluate(timed, split, table, evaluator, batch_tokens=BATCH * LENGTH)
            total = time.process_time() - begun
            if number:  # the first is a warm-up
                assert result.coverage.complete
                ratios.append(total / timed.seconds - 1)
                inside.append(timed.seconds)
                begun = time.process_time()
                state_sha256(net.state_dict().items())
                state_checksum(net.named_parameters())
                state_checksum(net.named_parameters())
                once.append((time.process_time() - begun) / timed.seconds)
        found[evaluator.name] = {
            "targets": len(split) - 1,
            "forward_passes": timed.passes,
            "forward_cpu_seconds": round(statistics.median(inside), 2),
            "rounds": [round(ratio, 4) for ratio in ratios],
            "median": round(statistics.median(ratios), 4),
            "of_which_once": round(statistics.median(once), 4),
        }
        shown = found[evaluator.name]
        print(
            f"overhead on {evaluator.name}: {shown['median']:+.2%} of the forward passes "
            f"({shown['of_which_once']:.2%} once per evaluation, whatever its length)",
            flush=True,
        )
    return found


def bare(net, pairs, rows):
    """CPU seconds of golf's evaluation over those of a bare loop, pair by pair."""
    tokens = stream(net, rows)
    table = uniform_byte_table(net.vocab_size)
    evaluator = Contiguous(LENGTH).evaluators(LENGTH)["contiguous"]

    def with_referee():
        return evaluate(net, tokens, table, evaluator, batch_tokens=BATCH * LENGTH).score.nats_sum

    def loop():
        total = 0.0
        ids = torch.from_numpy(tokens.astype(np.int64))
        with torch.no_grad():
            for first in range(0, rows, BATCH):
                begin, end = first * LENGTH, min(first + BATCH, rows) * LENGTH
                x, y = ids[begin:end].view(-1, LENGTH), ids[begin + 1 : end + 1].view(-1, LENGTH)
                total += float(net(x, y, reduction="none").double().sum())
        return total

    assert abs(with_referee() / loop() - 1) < 1e-6  # both are warm now, and score the same
    ratios, seconds = [], []
    for pair in range(pairs):
        spent = {}
        for run in (with_referee, loop) if pair % 2 else (loop, with_referee):
            started = time.process_time()
            run()
            spent[run.__name__] = time.process_time() - started
        ratios.append(spent["with_referee"] / spent["loop"])
        seconds.append(spent["loop"])
    print(f"against a bare loop: {statistics.median(ratios) - 1:+.2%} (median of {pairs} pairs)", flush=True)
    return {
        "targets": rows * LENGTH,
        "bare_cpu_seconds": round(statistics.median(seconds), 2),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 4),
    }


def packed(net, node, folder):
    """The network as an artifact (16-bit floats, packed quickly) and a split of its vocabulary."""
    quantised = build(compose("train", ["experiment=smoke", "quant=none"])["quant"]).quantise(
        net.state_dict(), roles_of(net)
    )
    path = folder / "model.golf"
    pack(path, quantised, node, {"kind": "none"}, codec_named("none"))
    texts = ["data=synthetic", "data.train_tokens=20000", "data.val_tokens=20000", f"data.folder={folder / 'data'}"]
    data = dict(compose("train", texts)["data"]) | {"vocab_size": net.vocab_size}
    return path, build(data).prepare(say=lambda line: None).folder


def audited(path, data, overrides, seq_len):
    """CPU seconds of an audit under a protocol, and of every rule that took a tenth of a second."""
    subject = open_subject(path, data_folder=data)
    if overrides:
        config = compose("evaluate", ["run=x", *overrides])
        subject.config = {"eval": config["eval"], "ttt": config["ttt"], "data": {"seq_len": seq_len}, "model": {}}
    before, begun = cpu_seconds(), time.monotonic()
    report = audit(subject, load_profile("strict"))
    seconds, wall = cpu_seconds() - before, time.monotonic() - begun
    rules = {entry["id"]: entry["seconds"] for entry in report["rules"] if entry["seconds"] >= 0.1}
    outcomes = {entry["id"]: entry["outcome"] for entry in report["rules"]}
    seen = subject.examination
    return {
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(wall, 1),
        "window_tokens": None if seen is None else seen.path.window,
        "stream_tokens": None if seen is None else len(seen.path.tokens),
        "places": None if seen is None else len(seen.positions),
        "rule_wall_seconds": rules,
        "tested_by_behaviour": report["tested_by_behaviour"],
        "failed": [name for name, outcome in outcomes.items() if outcome == "fail"],
    }


def write(path, part, found, about):
    """Put one part into the result; the others stay."""
    report = json.loads(path.read_text()) if path.is_file() else {}
    report |= about
    report.setdefault("parts", {})[part] = {"date": datetime.date.today().isoformat(), **found}
    path.write_text(json.dumps(report, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="record/0427_lqer_sparse_gate_hp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", default=",".join([*PROTOCOLS, "overhead"]), help="of these, and `bare`")
    parser.add_argument("--rounds", type=int, default=3, help="of `overhead` and `bare`")
    parser.add_argument("--rows", type=int, default=16, help=f"sequences of {LENGTH} per evaluation")
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "referee.json"))
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    unknown = [part for part in parts if part not in (*PROTOCOLS, "overhead", "bare")]
    if unknown:
        raise SystemExit(f"--parts {unknown[0]}: allowed are {', '.join(PROTOCOLS)}, overhead, bare")
    torch.set_num_threads(arguments.threads)
    net, node = network(arguments.experiment)
    about = {
        "hardware": f"{platform.processor() or platform.machine()}, CPU only, {arguments.threads} threads",
        "command": "python benchmarks/referee.py",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "experiment": arguments.experiment,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }
    output, folder = Path(arguments.output), Path(tempfile.mkdtemp())
    try:
        path, data = packed(net, node, folder)
        for name in parts:
            if name in PROTOCOLS:
                found = audited(path, data, PROTOCOLS[name], 2048)
                print(f"audit, {name}: {found['cpu_seconds']} CPU s {found['rule_wall_seconds']}", flush=True)
            else:
                found = (overhead if name == "overhead" else bare)(net, arguments.rounds, arguments.rows)
            write(output, name, found, about)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
