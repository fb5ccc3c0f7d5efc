"""The export stages: calibrate → quantise → pack → verify → score, any number of times per run.

Invariant: nothing here writes to the checkpoints or to the weights they start from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from golf.codec.artifact import pack, read_artifact_with
from golf.codec.size import with_code
from golf.config.build import build
from golf.errors import UserError, VerificationFailed
from golf.files import sha256_of, write_atomically
from golf.interop.ptz import write_ptz
from golf.loading import open_artifact
from golf.models.exported import exported_network, exported_state, undrawn
from golf.models.roles import roles_of
from golf.own_techniques import codec_chooser, own_targets, stored_kinds
from golf.pipeline.calibrate import calibrate, calibration_settings, hessians_job, load_hessians
from golf.pipeline.ranks import with_all_ranks
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.scoring import score_artifact, with_clock
from golf.pipeline.stage import STAGES, Stage, run_stage
from golf.quant.sensitivity import sensitivity_table
from golf.quant.state import QuantisedState, same_state
from golf.submission.flatten import write_submission
from golf.training.device import torch_device


def export_run(
    run: RunFolder,
    export: str,
    config: dict[str, Any],
    through: str,
    submission: bool = True,
    upstream_ptz: bool = False,
) -> None:
    """Run the stages after `average` for one export. `config`: the run's, with this export's quant, codec and eval.

    `upstream_ptz` also writes final_model.int8.ptz, the challenge's own format, beside the packed file.

    Raises:
        UserError: the run has no trained weights yet.
    """
    root = run.export_root(export)
    weights = run.path / "stages" / "average" / "weights.safetensors"
    if not weights.is_file():
        raise UserError(f"run={run.path} has no trained weights yet: finish it with python train.py run={run.path}")
    last = STAGES.index(through)
    calibration = root / "stages" / "calibrate" / "calibration.json"
    quantised = root / "stages" / "quantise" / "quantised.golf"
    artifact, code = run.artifact(export), run.code(export)
    shipped, form = (artifact, code) if submission else (artifact,), config.get("code", "readable")
    stages = (
        Stage(
            "calibrate",
            calibration_settings(config),
            (weights,),
            lambda folder: calibrate(run, config, weights, folder),
        ),
        Stage(
            "quantise",
            config["quant"],
            (weights, calibration),
            lambda folder: _quantise(run, config, weights, calibration, folder),
        ),
        Stage(
            "pack",
            [config["codec"], config["model"], submission, config["budget"]["limit_bytes"], form],
            (quantised,),
            lambda folder: _pack(run, config, quantised, artifact, code if submission else None),
        ),
        Stage("verify", None, (quantised, *shipped), lambda folder: _verify(run, config, quantised, artifact)),
        Stage("score", [config["eval"]], (artifact,), lambda folder: _score(run, config, artifact, folder)),
    )
    for stage in stages:
        if STAGES.index(stage.name) <= last:
            run_stage(root, stage)
    if upstream_ptz and STAGES.index("pack") <= last:
        target = artifact.with_name("final_model.int8.ptz")
        run.say(f"wrote {target}: {write_ptz(target, QuantisedState.load(quantised)):,} bytes")


def tokenizer_identity(run: RunFolder) -> dict[str, Any]:
    """What an artifact says about the tokenizer it was trained with."""
    tokenizer = run.data(require_train=False).tokenizer(run.config["model"]["vocab_size"])
    return {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}


def _quantise(
    run: RunFolder, config: dict[str, Any], weights: Path, calibration: Path, folder: Path
) -> tuple[Iterable[Path], dict[str, Any]]:
    state, exported, hessians = with_all_ranks(SHARED_JOBS, "quantise", run, config, weights, calibration)
    output, table = folder / "quantised.golf", folder / "sensitivity.json"
    state.save(output)
    lines = [line.as_dict() for line in sensitivity_table(exported, state.tensors, hessians)]
    write_atomically(table, json.dumps({"tensors": lines, "notes": list(state.notes)}, indent=1))
    if state.notes:
        run.say(
            f"quantised otherwise than asked, {len(state.notes)} times: {state.notes[0]}"
            + (" …" * (len(state.notes) > 1))
        )
    return [output, table], {"payload_bytes": state.payload_bytes(), "fallbacks": len(state.notes)}


def _quantise_job(run: RunFolder, arguments: tuple[Any, ...], rank: int, world: int) -> tuple[QuantisedState, Any, Any]:
    """The quantised state, with the weights and Hessians that it is made of: (config, weights, calibration)."""
    from safetensors.torch import load_file

    config, weights, calibration = arguments
    with torch.device("meta"):
        net = build(undrawn(config["model"]))
    hessians = load_hessians(calibration, torch_device(config["hardware"]))
    exported = exported_state(net, load_file(weights))
    return build(config["quant"]).quantise(exported, roles_of(net), hessians, rank, world), exported, hessians


# What ranks share out (golf/pipeline/ranks.py).
SHARED_JOBS = {"hessians": hessians_job, "quantise": _quantise_job}


def _pack(
    run: RunFolder, config: dict[str, Any], quantised: Path, artifact: Path, code: Path | None
) -> tuple[Iterable[Path], dict[str, Any]]:
    network, codec = exported_network(config["model"]), build(config["codec"])
    own = own_targets(config)
    sizes = pack(artifact, QuantisedState.load(quantised, stored_kinds(own)), network, tokenizer_identity(run), codec)
    outputs = [artifact]
    if code is not None:
        write_submission(config, code)
        outputs.append(code)
        sizes = with_code(sizes, code)
    total = sum(sizes.values())
    limit = config["budget"]["limit_bytes"]
    counted = "with code" if code is not None else "without code"
    run.say(f"packed {artifact.relative_to(run.path)}: {total:,} bytes {counted}, {limit:,} allowed")
    return outputs, {
        "bytes_by_class": sizes,
        "artifact_bytes": artifact.stat().st_size,
        "code_bytes": code.stat().st_size if code is not None else None,
        "total_bytes": total,
        "limit_bytes": limit,
        "sha256": sha256_of(artifact),
        "own_targets": own,
    }


def _verify(
    run: RunFolder, config: dict[str, Any], quantised: Path, artifact: Path
) -> tuple[Iterable[Path], dict[str, Any]]:
    """The packed file, read back, holds the very bits that were quantised, and rebuilds a network that runs."""
    own = own_targets(run.config, config)
    kinds = stored_kinds(own)
    expected = QuantisedState.load(quantised, kinds).dequantise()
    if not same_state(read_artifact_with(artifact, codec_chooser(own), kinds).quantised.dequantise(), expected):
        raise VerificationFailed(f"{artifact} does not decode to the tensors that were packed: do not ship it")
    net, _ = open_artifact(artifact, own)
    ids_BT = torch.arange(16, dtype=torch.int64).remainder(net.vocab_size).view(1, 16)
    with torch.no_grad():
        if not torch.isfinite(net.eval()(ids_BT)).all():
            raise VerificationFailed(f"the network in {artifact} gives logits that are not finite: do not ship it")
    run.say(f"verified: {len(expected)} tensors decode bit for bit, the network runs")
    return [], {"tensors": len(expected), "bit_equal": True}


def _score(
    run: RunFolder, config: dict[str, Any], artifact: Path, folder: Path
) -> tuple[Iterable[Path], dict[str, Any]]:
    """Score from the packed file in a fresh process."""
    prepared = run.data(require_train=False)
    output = folder / "scores.json"
    data = {"folder": prepared.folder, "tokenizer": prepared.tokenizer_path}
    ladder = score_artifact(
        artifact,
        data,
        with_clock(config["eval"], run.config),
        config["hardware"],
        config["data"]["seq_len"],
        output,
        run.say,
        trusted=own_targets(run.config, config),
    )
    return [output], {"ladder": ladder}
