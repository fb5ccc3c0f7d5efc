"""The calibrate stage: Hessians for the algorithms of a quantisation plan that want them, kept in the run folder.

Invariant: what is collected comes from the plan's calibration source and the weights alone; a matrix that shares its
inputs with another one (queries, keys and values) is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from golf.config.build import build
from golf.errors import UserError
from golf.files import sha256_of, write_atomically
from golf.pipeline.ranks import ranks_here, with_all_ranks
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.stage import stage_result
from golf.quant.calibration_ledger import CalibrationLedger

Hessians = dict[str, torch.Tensor]


def calibration_settings(config: dict[str, Any]) -> Any:
    """What a calibration depends on besides weights; None where the plan rounds without one."""
    if not build(config["quant"]).needs_calibration():
        return None
    return [config["quant"].get("calibration"), config["model"], config["data"]["seq_len"]]


def calibrate(
    run: RunFolder, config: dict[str, Any], weights: Path, folder: Path
) -> tuple[Iterable[Path], dict[str, Any]]:
    """Collect and write Hessians; an empty table if the plan needs none.

    Raises:
        UserError: the plan needs Hessians and names no source of them.
    """
    output, tensors = folder / "calibration.json", folder / "hessians.safetensors"
    plan = build(config["quant"])
    if not plan.needs_calibration():
        write_atomically(output, json.dumps({"tensors": {}}))
        return [output], {"collected": 0}
    if plan.calibration is None:
        raise UserError(
            "this quantisation plan wants Hessians and quant.calibration names no source: "
            "type quant/calibration=training_tokens or quant/calibration=self_generated"
        )
    trained = (stage_result(run.path, "train") or {}).get("train_seconds") or 0.0
    ledger = CalibrationLedger(trained, run.config["budget"]["max_seconds"])
    hessians = with_all_ranks({"hessians": hessians_job}, "hessians", run, config, weights, ledger)
    owners = save_hessians(hessians, tensors)
    traces = {name: float(hessian.diagonal().double().sum()) for name, hessian in hessians.items()}
    write_atomically(output, json.dumps({"tensors": owners, "traces": traces, "sha256": sha256_of(tensors)}, indent=1))
    run.say(ledger.line(len(hessians)))
    source = {"collected": len(hessians), "source": type(plan.calibration).__name__, "ranks": ranks_here()}
    return [output, tensors], source | ledger.as_dict()


def hessians_job(run: RunFolder, arguments: tuple[Any, ...], rank: int, world: int) -> Hessians:
    """`collect` as ranks share it: (config, weights, ledger), the ledger being rank 0's."""
    config, weights, ledger = arguments
    return collect(run, config, build(config["quant"]).calibration, weights, ledger, rank, world)


def collect(
    run: RunFolder,
    config: dict[str, Any],
    source: Any,
    weights: Path,
    ledger: CalibrationLedger,
    rank: int = 0,
    world: int = 1,
) -> Hessians:
    """The Hessians of a run's exported weights, from a calibration source; on every rank those of all of them."""
    from safetensors.torch import load_file

    from golf.data.shards import train_shards
    from golf.training.checkpointing import load_weights
    from golf.training.device import torch_device

    torch.set_num_threads(config["hardware"]["threads"])
    device = torch_device(config["hardware"])
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    net = build(config["model"])
    load_weights(net, load_file(weights))
    shards = None  # a source that says it reads nothing gets nothing to read
    if source.reads_training_data:
        prepared = run.data()
        tokenizer = prepared.tokenizer(net.vocab_size)
        unique_tokens = run.config["budget"].get("unique_tokens", 0)
        shards = ledger.shards(train_shards(prepared.folder), net.vocab_size, tokenizer.bos_id, unique_tokens)
    found = source.hessians(net.to(device).eval(), shards, config["data"]["seq_len"], rank, world)
    if world > 1:
        ledger.share()
    return found


def save_hessians(hessians: Hessians, path: Path) -> dict[str, str]:
    """Write every distinct Hessian once; returns, for each name, the name that it is stored under."""
    from safetensors.torch import save

    owners: dict[str, str] = {}
    stored: Hessians = {}
    for name, hessian in hessians.items():
        equal = [
            other for other, known in stored.items() if known.shape == hessian.shape and torch.equal(known, hessian)
        ]
        owners[name] = equal[0] if equal else name
        if not equal:
            stored[name] = hessian
    write_atomically(path, save({name: hessian.cpu().contiguous() for name, hessian in stored.items()}))
    return owners


def load_hessians(calibration: Path, device: torch.device) -> Hessians:
    """What `calibrate` wrote, on a device."""
    from safetensors.torch import load_file

    owners = json.loads(calibration.read_text(encoding="utf-8"))["tensors"]
    if not owners:
        return {}
    stored = load_file(calibration.with_name("hessians.safetensors"), device=str(device))
    return {name: stored[owner] for name, owner in owners.items()}
