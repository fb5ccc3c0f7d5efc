"""A whole run at tiny size in a temporary folder, in a process of its own: does every stage work on this machine?

The configuration is the user's; only sizes shrink, data become synthetic, and nothing is compiled or uploaded. So a
technique of one's own is tried from training to the packed, scored artifact within half a minute.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.doctor import Line

TIMEOUT_SECONDS = 300
MODEL = {"num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 2}
DATA = {"tokens_per_step": 256, "seq_len": 32, "spans_per_step": 2}
SYNTHETIC = {"train_tokens": 20_000, "val_tokens": 2_000, "branches": 4}
STEPS = 3
START = "from golf.app import main_train; main_train()"


def dry_run(overrides: Sequence[str]) -> list[Line]:
    """A line per stage; the first that does not finish is the last line, with what it said."""
    from golf.config.command import check_command
    from golf.config.compose import compose
    from golf.pipeline.run_folder import create_run_folder
    from golf.training.resolve import resolve_config

    texts = list(overrides) or ["experiment=smoke"]
    if check_command("train", texts).errors:
        return [Line("fail", "dry run", "not tried: the configuration has errors (see above)")]
    with tempfile.TemporaryDirectory(prefix="golf-doctor-", ignore_cleanup_errors=True) as folder:
        config = resolve_config(shrunk(compose("train", texts), Path(folder)))
        run = create_run_folder(Path(folder) / "run", config, texts)
        code, said = execute(run.path)
        return stage_lines(run.path, code, said)


def shrunk(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same options in small: width 32, three steps of synthetic tokens, eager, one device, nothing logged."""
    from golf.config.compose import compose

    found = copy.deepcopy(config)
    own = found["model"]
    own.update({key: value for key, value in MODEL.items() if key in own})
    synthetic = compose("train", ["data=synthetic"])["data"]
    found["data"] = synthetic | SYNTHETIC | DATA | {"folder": str(folder / "data"), "vocab_size": own["vocab_size"]}
    found["data"]["tokenizer"] = "auto"
    found["budget"] = compose("train", ["budget=steps"])["budget"] | {"max_steps": STEPS}
    found["hardware"] |= {"devices": 1, "compile": False, "micro_batch_tokens": 0}
    small = {"max_tokens": 512, "stride": 8, "seq_len": 0}
    found["eval"] |= {key: value for key, value in small.items() if key in found["eval"]}
    if isinstance(found["callbacks"].get("warmup"), dict):
        found["callbacks"]["warmup"]["steps"] = 1
    found["trainer"] |= {"fast_dev_run": False, "val_check_steps": 2, "profiler": None}
    return found | {"logger": {}, "through": "score", "init_from": None, "ckpt_path": None}


def execute(run: Path) -> tuple[int, list[str]]:
    """Exit code, and the last lines of what the run said on stderr."""
    import golf

    paths = [str(Path(golf.__file__).resolve().parent.parent), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-c", START, f"run={run}"]
    try:
        done = subprocess.run(
            command,
            cwd=run.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, [f"did not end within {TIMEOUT_SECONDS} seconds"]
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()][-1:]


def stage_lines(run: Path, code: int, said: list[str]) -> list[Line]:
    """From the manifests of the stages that finished."""
    from golf.pipeline.stage import STAGES, stage_result

    lines = []
    for stage in STAGES:
        result = stage_result(run, stage)
        if result is None:
            reason = said[-1].removeprefix("golf: ") if said else f"ended with exit code {code}"
            return [*lines, Line("fail", f"run {stage}", reason, "golf check, then python train.py experiment=smoke")]
        lines.append(Line("ok", f"run {stage}", f"{result['stage_seconds']:.1f} s{detail(stage, result)}"))
    page = (run / "report.html").is_file()
    lines.append(Line("ok" if page and not code else "fail", "run report", "report.html" if page else "no report.html"))
    return lines


def detail(stage: str, result: dict[str, Any]) -> str:
    if stage == "train":
        return f", {result['steps']} steps, {result['parameters']:,} parameters"
    if stage == "pack":
        return f", {result['artifact_bytes']:,} bytes of model, {result['code_bytes'] or 0:,} of code"
    if stage == "verify":
        return f", {result['tensors']} tensors decode bit for bit"
    if stage in ("average", "score") and result["ladder"]:
        return ", " + ", ".join(f"{rung['stage']} {rung['bpb']:.3f} BPB" for rung in result["ladder"])
    return ""
