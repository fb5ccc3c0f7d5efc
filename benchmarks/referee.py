"""What the referee costs: on an evaluation itself, and as a whole audit of a 36-M-parameter network on a CPU.

    python benchmarks/referee.py                      (two threads; about five minutes on two quiet cores)

The network is that of a record with random weights (every part contributes), packed as an artifact beside a synthetic
validation split of its vocabulary. `overhead`: golf's evaluation (session, ledger, hashes, record) against a bare loop
over the same batches, in pairs of alternating order; the ratio of every pair in CPU seconds, and its median. `audits`:
CPU seconds of `golf audit`, child processes included, for the artifact under each protocol, and what each rule took.
Writes benchmarks/results/referee.json.
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
from golf.evaluation.protocol import evaluate
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


def overhead(net, pairs, rows):
    """CPU seconds of golf's evaluation over those of a bare loop, pair by pair."""
    tokens = np.random.default_rng(0).integers(2, net.vocab_size, rows * LENGTH + 1).astype(np.uint16)
    table = uniform_byte_table(net.vocab_size)
    evaluator = Contiguous(LENGTH).evaluators(LENGTH)["contiguous"]

    def with_referee():
        return evaluate(net, tokens, table, evaluator, batch_tokens=BATCH * LENGTH).score.nats_sum

    def bare():
        total = 0.0
        ids = torch.from_numpy(tokens.astype(np.int64))
        with torch.no_grad():
            for first in range(0, rows, BATCH):
                begin, end = first * LENGTH, min(first + BATCH, rows) * LENGTH
                x, y = ids[begin:end].view(-1, LENGTH), ids[begin + 1 : end + 1].view(-1, LENGTH)
                total += float(net(x, y, reduction="none").double().sum())
        return total

    assert abs(with_referee() / bare() - 1) < 1e-6  # both are warm now, and score the same
    ratios, seconds = [], []
    for pair in range(pairs):
        spent = {}
        for run in (with_referee, bare) if pair % 2 else (bare, with_referee):
            started = time.process_time()
            run()
            spent[run.__name__] = time.process_time() - started
        ratios.append(spent["with_referee"] / spent["bare"])
        seconds.append(spent["bare"])
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="record/0427_lqer_sparse_gate_hp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=32, help=f"sequences of {LENGTH} per evaluation")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS))
    parser.add_argument("--output", default=str(Path(__file__).parent / "results" / "referee.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net, node = network(arguments.experiment)
    report = {
        "hardware": f"{platform.processor() or platform.machine()}, CPU only, {arguments.threads} threads",
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/referee.py --experiment {arguments.experiment} --threads {arguments.threads}",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "experiment": arguments.experiment,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "audits": {},
    }
    folder = Path(tempfile.mkdtemp())
    try:
        path, data = packed(net, node, folder)
        for name in filter(None, arguments.protocols.split(",")):
            report["audits"][name] = found = audited(path, data, PROTOCOLS[name], 2048)
            print(f"audit, {name}: {found['cpu_seconds']} CPU s {found['rule_wall_seconds']}", flush=True)
    finally:
        shutil.rmtree(folder)
    if arguments.pairs:
        report["overhead"] = overhead(net, arguments.pairs, arguments.rows)
        print(f"overhead on an evaluation: {report['overhead']['median_ratio'] - 1:+.2%} (median of pairs)")
    Path(arguments.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
