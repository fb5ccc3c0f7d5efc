"""What takes the place of a stage that failed in a dry run, so that the stages after it can be tried.

Untrained weights for training, no protocols for the rungs before packing, plain int8 for calibration and quantising, no
compression for packing. Invariant: only the temporary run of the dry run is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from golf.errors import GolfError

INSTEAD = {
    "train": "untrained weights",
    "average": "eval=none",
    "calibrate": "quant=int8_rows",
    "quantise": "quant=int8_rows",
    "pack": "codec=none",
}
OPTION = {"average": "eval=none", "calibrate": "quant=int8_rows", "quantise": "quant=int8_rows", "pack": "codec=none"}


def stand_in(run: Path, stage: str) -> bool:
    """Make the run go on behind a stage; False where nothing can take its place."""
    from golf.config.compose import compose
    from golf.files import write_yaml
    from golf.pipeline.run_folder import RUN_VERSION, open_run_folder

    opened = open_run_folder(run)
    try:
        if stage == "train":
            untrained(opened)
            return True
        if stage == "verify":
            verified(opened)
            return True
    except (GolfError, RuntimeError, OSError, TypeError, ValueError):
        return False  # such as a network that cannot be built: its line is there already
    if stage not in OPTION:
        return False
    group = OPTION[stage].partition("=")[0]
    other = compose("train", [OPTION[stage]])[group]
    if opened.config[group] == other:
        return False
    write_yaml(run / "config.yaml", {"run_version": RUN_VERSION, **opened.config, group: other})
    return True


def untrained(run: Any) -> None:
    """The train stage with the weights that training would have begun with."""
    from golf.app import _train_stage
    from golf.config.build import build
    from golf.loop import seed_everything
    from golf.pipeline.stage import run_stage
    from golf.training.checkpointing import save_weights

    def work(folder: Path) -> tuple[Iterable[Path], dict[str, Any]]:
        seed_everything(run.config["seed"])
        net, output = build(run.config["model"]), folder / "weights.safetensors"
        save_weights(net.state_dict(), output)
        return [output], {"steps": 0, "parameters": sum(p.numel() for p in net.parameters()), "hardware": "none"}

    run_stage(run.path, _train_stage(run, work))


def verified(run: Any) -> None:
    """The verify stage, taken as done."""
    from golf.pipeline.stage import Stage, run_stage

    quantised = run.path / "stages" / "quantise" / "quantised.golf"
    shipped = (run.artifact(run.config["export"]), run.code(run.config["export"]))
    run_stage(run.path, Stage("verify", None, (quantised, *shipped), lambda folder: ([], {})))
