"""`export.py fit.margin_bytes=…`: a trained run through the fit ladder (golf/size/fit.py), then an ordinary export.

The climb is a stage of the export: the same weights, settings and limit give its result again without climbing.
Each rung's BPB is measured on training data (golf/pipeline/training_slice.py); it is written down and decides nothing.
Invariant: the table is kept, and shown in summary.json and report.html, whether the export fits or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from golf.config.build import build
from golf.errors import LimitExceeded, UserError
from golf.files import write_atomically
from golf.models.exported import exported_state, undrawn
from golf.models.roles import roles_of
from golf.pipeline.calibrate import calibrate, calibration_settings, load_hessians
from golf.pipeline.export import tokenizer_identity
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.stage import Stage, run_stage
from golf.pipeline.summary import write_summary
from golf.pipeline.training_slice import TrainingSlice
from golf.quant.state import QuantisedState
from golf.report.html import write_report
from golf.size.fit import FitLadder, Fitted, Fitting
from golf.size.show import ladder_text
from golf.submission.flatten import submission_bytes
from golf.training.device import torch_device

Config = dict[str, Any]


def fit_export(run: RunFolder, export: str, config: Config, ladder: FitLadder, submission: bool) -> Config:
    """The configuration of an export that fits; its table goes to artifact/<export>/fit.json.

    Raises:
        LimitExceeded: it cannot be made to fit; the table is kept.
        UserError: the run has no trained weights yet, or the margin is as large as the limit.
    """
    limit, margin = config["budget"]["limit_bytes"], ladder.margin_bytes or 0
    if margin >= limit:
        raise UserError(f"fit.margin_bytes={margin} leaves nothing of {limit:,} bytes: type fit.margin_bytes=20000")
    root = run.export_root(export)
    weights = run.path / "stages" / "average" / "weights.safetensors"
    if not weights.is_file():
        raise UserError(f"run={run.path} has no trained weights yet: finish it with python train.py run={run.path}")
    run_stage(
        root,
        Stage(
            "calibrate",
            calibration_settings(config),
            (weights,),
            lambda folder: calibrate(run, config, weights, folder),
        ),
    )
    calibration = root / "stages" / "calibrate" / "calibration.json"
    target = limit - margin

    def work(folder: Path) -> tuple[Iterable[Path], Config]:
        table = run.artifact(export).parent / "fit.json"
        ruler = training_ruler(run, config, ladder.score_tokens)
        fitted = climb(run, config, ladder, weights, calibration, target, submission, ruler)
        found = {"target_bytes": target, "fits": fitted.fits, "scored_on": ruler and ruler.label, "rungs": fitted.rows}
        write_atomically(table, json.dumps({**found, "quant": fitted.quant, "codec": fitted.codec}, indent=1))
        run.say("\n" + ladder_text(fitted.rows, target, found["scored_on"]) + "\n")
        if not fitted.fits:
            raise LimitExceeded(refusal(export, fitted.rows[-1], target, table))
        return [table], {"quant": fitted.quant, "codec": fitted.codec, "rungs": fitted.rows}

    settings = [config["quant"], config["codec"], config["model"], vars(ladder), target, submission]
    try:
        result = run_stage(root, Stage("fit", settings, (weights, calibration), work))
    except LimitExceeded:
        write_summary(run)
        write_report(run.path)
        raise
    return {**config, "quant": result["quant"], "codec": result["codec"]}


def refusal(export: str, row: Config, target: int, table: Path) -> str:
    """What is said when every rung was not enough: by how much, and where the bytes are."""
    listed = ", ".join(f"{k} {v:,}" for k, v in sorted(row["bytes_by_class"].items(), key=lambda item: -item[1]))
    return (
        f"export '{export}' cannot be made to fit: after every rung it is {row['total_bytes'] - target:,} bytes over "
        f"{target:,} ({listed}); train a smaller model, or allow more with fit.widest_clip=2 (table in {table})"
    )


def training_ruler(run: RunFolder, config: Config, tokens: int) -> TrainingSlice | None:
    """What rungs are scored with; None where that is not asked for, or the training data is not here."""
    if not tokens:
        return None
    try:
        return TrainingSlice(run, config, tokens)
    except UserError as error:
        run.say(f"fit: rungs are not scored: {error}")
        return None


def climb(
    run: RunFolder,
    config: Config,
    ladder: FitLadder,
    weights: Path,
    calibration: Path,
    target: int,
    submission: bool,
    ruler: TrainingSlice | None,
) -> Fitted:
    """Climb the ladder for a run's weights."""
    with torch.device("meta"):
        net = build(undrawn(config["model"]))
    loaded, tokenizer = load_file(weights), tokenizer_identity(run)
    known: dict[str, int] = {}

    def code_bytes(changed: Config) -> int:
        if not submission:
            return 0
        key = json.dumps([changed["quant"], changed["codec"]], sort_keys=True)
        if key not in known:
            known[key] = len(submission_bytes(changed))
        return known[key]

    def score(state: QuantisedState) -> float | None:
        return ruler.bpb({**loaded, **state.dequantise()}) if ruler is not None else None

    fitting = Fitting(
        ladder,
        config,
        exported_state(net, loaded),
        roles_of(net),
        load_hessians(calibration, torch_device(config["hardware"])),
        tokenizer,
        code_bytes,
        target,
        run.say,
        score if ruler is not None else None,
    )
    return fitting.climb()
