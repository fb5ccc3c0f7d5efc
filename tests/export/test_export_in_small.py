"""Every experiment as a single file, in small: it trains alone, and golf scores the artifact it writes as it does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
from forked import run_forked
from tiny import records, shrunk, tiny_data

from golf.config.build import build
from golf.config.compose import Composer, conf_dir
from golf.evaluation.protocol import evaluate_plan
from golf.loading import open_artifact
from golf.submission.flatten import write_submission
from golf.submission.verify import run_alone

OTHERS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml") if path.stem != "none")
EXPERIMENTS = [*(f"record/{name}" for name in records()), *OTHERS]
# One of each family alone in an interpreter without golf; the others in a process that shares the libraries.
ISOLATED = {
    f"record/{name}" for name in ("0324_ternary_74m", "0331_parallel_residual_recurrence", "0427_lqer_sparse_gate_hp")
}
PACKED = {"record/0427_lqer_sparse_gate_hp", "frontier"}  # with short names: the other way in which a file can be wrong
STEPS = 3


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_is_one_file_that_trains_and_scores_alone(experiment, tmp_path):
    torch.set_num_threads(1)
    config = shrunk(Composer("train").compose([f"experiment={experiment}", "budget=steps"]), layers=None)
    config["budget"]["max_steps"] = STEPS
    config["code"] = "packed" if experiment in PACKED else "readable"
    config["callbacks"]["warmup"]["steps"] = 1
    lr = config["schedule"]["lr"]
    if "warmdown_steps" in lr:
        lr["warmdown_steps"] = 2
    config["data"] = tiny_data(tmp_path / "shards", config["data"]["order"], shard_tokens=600)
    prepared = build(config["data"]).prepare(say=lambda line: None)
    code = write_submission(config, tmp_path / "train_gpt.py")
    artifact = tmp_path / "model.golf"
    arguments = ["--data", str(prepared.folder), "--output", str(artifact)]
    alone = run_alone(code, arguments) if experiment in ISOLATED | PACKED else run_forked(code.read_text(), arguments)
    assert [step["step"] for step in alone["steps"]] == list(range(1, STEPS + 1))
    assert alone["artifact_bytes"] == artifact.stat().st_size
    net, _ = open_artifact(artifact)
    tokenizer = prepared.tokenizer(64)
    tokens, plan = prepared.validation_tokens(64), build(config["eval"])
    scores = evaluate_plan(net.eval(), tokens, tokenizer.byte_table(), plan, 16, bos_id=tokenizer.bos_id)
    printed = {score["name"]: score["bpb"] for score in alone["scores"] if score["weights"] == "artifact"}
    assert printed == pytest.approx({name: result.bpb for name, result in scores.items()}, abs=1e-9)
