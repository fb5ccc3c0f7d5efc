"""A whole run of a tiny configuration: trained, averaged, quantised, packed, read back from the file, and scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_data

from golf.clock import BudgetClock
from golf.codec.artifact import pack, read_artifact
from golf.config.build import build
from golf.evaluation.protocol import evaluate_plan
from golf.loop import seed_everything, train
from golf.models.roles import roles_of
from golf.quant.calibration_ledger import CalibrationLedger

CPU = torch.device("cpu")


@dataclass
class TinyRun:
    """What is left of it: the trained network, its weights (averaged), the artifact, the network read from it."""

    net: Any
    weights: dict[str, Any]
    ledger: CalibrationLedger
    quantised: Any
    found: Any
    again: Any
    scores: dict[str, Any]


def tiny_run(
    config: dict[str, Any],
    shards: Path,
    packed: Path,
    on_step: Callable[[int, torch.Tensor], None],
    device: torch.device = CPU,
) -> TinyRun:
    """Run a configuration that `tiny.shrunk` and `tiny.shrink_quantisation` have shrunk, for every phase of its depth.

    Args:
        shards: folder of the synthetic data; made where it is empty.
        packed: the artifact that is written.
        on_step: is given each step's mean loss, a tensor on the device.
    """
    seed_everything(config["seed"])
    data = build(tiny_data(shards, config["data"]["order"], shard_tokens=600))
    prepared = data.prepare(say=lambda line: None)
    net, stream = build(config["model"]).to(device), data.stream(prepared, 64)
    optimizer = build(config["optim"])(net)
    average, qat = (build(config[part]) if "_target_" in config[part] else None for part in ("average", "qat"))
    if qat is not None:
        qat.attach(net)
    clock = BudgetClock(stream.tokens_per_step, max_steps=steps_of(net))
    schedules = build(config["schedule"])
    train(net, optimizer, stream, schedules, clock, device, average=average, qat=qat, on_step=on_step)
    weights = {**net.state_dict(), **(average.average(net) if average is not None else {})}
    net.load_state_dict(weights)
    plan, ledger, hessians = build(config["quant"]), CalibrationLedger(0.0), {}
    if plan.needs_calibration():
        paths = ledger.shards(prepared.train_paths, 64, prepared.tokenizer(64).bos_id)
        hessians = plan.calibration.hessians(net, paths, stream.seq_len)
    quantised = plan.quantise(weights, roles_of(net), hessians)
    pack(packed, quantised, config["model"], {"kind": "none"}, build(config["codec"]))
    found = read_artifact(packed)
    again = build(found.network)
    again.load_state_dict(found.quantised.dequantise())
    tokenizer, tokens = prepared.tokenizer(64), prepared.validation_tokens(64)
    options = {"device": device, "bos_id": tokenizer.bos_id}
    again = again.to(device).eval()
    scores = evaluate_plan(again, tokens, tokenizer.byte_table(), build(config["eval"]), 16, **options)
    return TinyRun(net, weights, ledger, quantised, found, again, scores)


def steps_of(net: Any) -> int:
    """Two, or one in each phase (a loop that comes in two steps has three)."""
    return max(2, len(net.plan.phases))
