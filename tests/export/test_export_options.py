"""Every option of what is exported: the specialised file does what the whole program does, to the last bit.

The two are run in processes of their own that share the imported libraries. The full grid takes a quarter of an hour
and more: GOLF_FULL_GRID=1 pytest tests/export/test_export_options.py
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
from forked import run_forked
from model_options import FITTING, LAYERS, MODEL_GROUPS, NOT_HERE
from tiny import options, shrink_quantisation, tiny, tiny_data

from golf.config.build import build
from golf.submission.flatten import flatten

STEPS = 4
SEVERAL = ("schedule", "average", "qat", "sparsity", "optim", "quant", "codec", "eval", "ttt", "budget", "data/order")
OPTIONS = [(group, option) for group in SEVERAL for option in options(group)] + [
    (f"model/{group}", option) for group in MODEL_GROUPS for option in options(f"model/{group}")
]
WITH = {  # what an option needs to be in action in so small a run
    "ttt": ["eval=adaptive"],
    "eval/adaptive": ["ttt=lora"],
    "eval/cross_sequence": ["model/attention=cross_sequence"],
    "schedule/staged": ["schedule.seq_len.stages=[[0,8],[0.5,16]]"],
}
IDLE = {("ttt", "none"), ("backend", "flex")}  # nothing to adapt with; no backward pass on CPUs
FEW = {("average", "search")}  # the others take seconds each
FULL_GRID = [
    pytest.mark.slow,
    pytest.mark.skipif("GOLF_FULL_GRID" not in os.environ, reason="GOLF_FULL_GRID=1 runs it"),
]
GRID = [
    pytest.param(group, option, marks=[] if (group, option) in FEW else FULL_GRID)
    for group, option in OPTIONS
    if (group.removeprefix("model/"), option) not in NOT_HERE | IDLE
]


def config_of(group: str, option: str, folder: Path) -> dict:
    part = group.removeprefix("model/")
    more = [*WITH.get(group, []), *WITH.get(f"{group}/{option}", []), *FITTING.get(f"{part}/{option}", [])]
    config = tiny([f"{group}={option}", *more], LAYERS.get(part, 3))
    order = config["data"]["order"]
    config["data"] = tiny_data(folder, order, shard_tokens=600)
    config["budget"]["max_steps"] = STEPS
    config["callbacks"]["warmup"]["steps"] = 1
    for plan in (config["quant"], (config["qat"] or {}).get("plan")):
        if plan:
            shrink_quantisation(plan)
    return config


def outcome(text: str, folder: Path, artifact: Path) -> dict:
    """Losses, scores and the artifact's hash of a program that trains, packs and scores."""
    found = run_forked(text, ["--data", str(folder), "--output", str(artifact)])
    losses = [step["train_loss"] for step in found["steps"]]
    scores = [(score["weights"], score["name"], score["bpb"]) for score in found["scores"]]
    return {"losses": losses, "scores": scores, "sha256": hashlib.sha256(artifact.read_bytes()).hexdigest()}


@pytest.mark.parametrize(("group", "option"), GRID)
def test_the_specialised_file_does_what_the_whole_program_does(group, option, tmp_path):
    config = config_of(group, option, tmp_path / "shards")
    prepared = build(config["data"]).prepare(say=lambda line: None)
    whole, own = ({**config, "code": code} for code in ("whole", "readable"))
    expected = outcome(flatten(whole), prepared.folder, tmp_path / "whole.golf")
    assert len(expected["losses"]) == STEPS
    assert option == "none" or any(weights == "artifact" for weights, _, _ in expected["scores"])
    assert outcome(flatten(own), prepared.folder, tmp_path / "own.golf") == expected
