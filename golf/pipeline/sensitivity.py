"""`export.py sensitivity.tokens=…`: the sensitivity table of an export, with the Δ BPB of quantising one tensor alone.

Measured on the end of the training split (golf/pipeline/training_slice.py), so that what is read from it may be acted
upon. artifact/<export>/sensitivity.json holds the table, sensitivity.svg the picture; both are in report.html. A run
that logs to W&B gets the table there, too.
Invariant: the packed files do not depend on whether this was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from golf.errors import GolfError
from golf.files import write_atomically
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.stage import Stage, run_stage
from golf.pipeline.training_slice import TrainingSlice
from golf.quant.sensitivity import loss_of_single_tensors
from golf.quant.state import QuantisedState
from golf.report.sensitivity import sensitivity_picture
from golf.size.show import sensitivity_text


def measure_sensitivity(run: RunFolder, export: str, config: dict[str, Any], tokens: int) -> None:
    """Score every quantised tensor alone, write table and picture, print and log them; done once per export.

    Raises:
        UserError: `tokens` are less than a window, or there is no training data here.
    """
    root, place = run.export_root(export), run.artifact(export).parent
    weights = run.path / "stages" / "average" / "weights.safetensors"
    quantised, table = (root / "stages" / "quantise" / name for name in ("quantised.golf", "sensitivity.json"))

    def work(folder: Path) -> tuple[Iterable[Path], dict[str, Any]]:
        found = with_losses(json.loads(table.read_text(encoding="utf-8")), run, config, weights, quantised, tokens)
        outputs = [place / "sensitivity.json", place / "sensitivity.svg"]
        write_atomically(outputs[0], json.dumps(found, indent=1))
        write_atomically(outputs[1], sensitivity_picture(found["tensors"], f"{config['name']} · {export}"))
        log_table(run, export, found)
        return outputs, {"scored_on": found["scored_on"], "tensors": len(found["tensors"])}

    settings = [tokens, config["model"], config["data"]["seq_len"]]
    run_stage(root, Stage("sensitivity", settings, (weights, quantised, table), work))
    run.say("\n" + sensitivity_text(json.loads((place / "sensitivity.json").read_text(encoding="utf-8"))))


def with_losses(
    found: dict[str, Any], run: RunFolder, config: dict[str, Any], weights: Path, quantised: Path, tokens: int
) -> dict[str, Any]:
    """A table with `delta_bpb` in each line, and what all tensors come to together."""
    ruler = TrainingSlice(run, config, tokens)
    loaded, stored = load_file(weights), QuantisedState.load(quantised).tensors
    names = [line["name"] for line in found["tensors"]]
    run.say(f"sensitivity: {len(names)} tensors, one at a time, on the {ruler.label}")
    losses = loss_of_single_tensors(loaded, stored, ruler.bpb, names)
    base = ruler.bpb(loaded)
    together = ruler.bpb({**loaded, **{name: tensor.dequantise() for name, tensor in stored.items()}})
    lines = [{**line, "delta_bpb": losses[line["name"]]} for line in found["tensors"]]
    return {**found, "scored_on": ruler.label, "bpb": base, "delta_bpb": together - base, "tensors": lines}


def log_table(run: RunFolder, export: str, found: dict[str, Any]) -> None:
    """The table in the run's W&B run, where it has one; a service that refuses does not end an export."""
    from golf.config.build import build
    from golf.training.loggers import finish_loggers

    for node in run.config["logger"].values():
        if node and node.get("_target_", "").endswith(".wandb_logger"):
            try:
                name = f"{run.config['name']}/{run.path.name}"
                logger = build({**node, "_partial_": True})(folder=run.path, name=name, config=run.config)
                finish_loggers([logger], {}, None, {export: found["tensors"]})
            except GolfError as error:
                run.say(f"sensitivity: not logged to W&B: {error}")
