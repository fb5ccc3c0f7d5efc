"""Every stage of the run that was asked for, once, in a temporary folder and processes of its own, with its pace.

Full shape: the user's network, micro-batches, windows, calibration, quantiser, codec, export and test-time training;
only repetition is cut (a few steps, one calibration batch, a few windows). The warm-up before them goes through every
graph that the schedules lead to. Tiny: the same options with a narrow network, where full shape would take long.
A stage that fails is told, replaced by something that works, and the stages after it are tried all the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from golf.doctor.finding import Line, Subject

START = "from golf.app import main_train; main_train()"
TOO_SLOW_FLOPS = 2e12  # of one step: more than seconds on a CPU
OVER_LIMIT = 3  # exit code: says nothing about a network after one step
UNKNOWN = "whether it works here is not known"
TIME_OVER = "the time for the dry run was over"
LOST = "a real run would be lost here, after what it has cost so far"


def dry_run(subject: Subject, arguments: Any) -> list[Line]:
    """A line per stage, and the step time against its forecast."""
    from golf.config.compose import compose
    from golf.doctor.shrink import full, tiny
    from golf.pipeline.run_folder import create_run_folder
    from golf.training.resolve import resolve_config

    if subject.config is None or subject.hardware is None:
        why = "see the lines that failed above"
        return [Line("fail", "dry run", "not tried: this run cannot start here", "mend those first", why)]
    texts = subject.overrides or ["experiment=smoke"]
    config = compose("train", texts, list(subject.config_dirs))
    steps = arguments.steps or (8 if subject.hardware["accelerator"] == "cuda" else 3)
    small, note = chosen_size(config, subject, arguments)
    with tempfile.TemporaryDirectory(prefix="golf-doctor-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config, notes = tiny(config, folder) if small else full(config, folder, steps)
        run = create_run_folder(folder / "run", resolve_config(config), texts)
        size = "tiny size" if small else "full shape"
        lines = [Line("ok", "dry run", "; ".join([size, *notes])), *note]
        failures = rehearse(run.path, time.monotonic() + arguments.timeout, subject.config_dirs)
        lines += stage_lines(run.path, failures)
        if not small and "train" not in failures:
            lines += pace(run.path, config, subject, arguments)
    return lines


def chosen_size(config: dict[str, Any], subject: Subject, arguments: Any) -> tuple[bool, list[Line]]:
    """Whether to shrink, and the line that says so where nobody asked for it."""
    from golf.size.plan import network_of
    from golf.training.flops import training_flops_per_token

    assert subject.hardware is not None
    if arguments.tiny or arguments.full or subject.hardware["accelerator"] == "cuda":
        return bool(arguments.tiny), []
    data = config["data"]
    tokens = data["tokens_per_step"] // max(1, data["spans_per_step"])
    flops = training_flops_per_token(network_of(config), data["seq_len"]) * tokens
    if flops <= TOO_SLOW_FLOPS:
        return False, []
    why = "shapes, memory and pace of the real run are not tried"
    detail = f"one micro-batch is {flops:.1e} FLOPs, too many for this device"
    return True, [Line("warn", "dry run", detail, "golf doctor --full, if you have the time", why)]


def rehearse(run: Path, deadline: float, config_dirs: tuple[Path, ...] = ()) -> dict[str, str]:
    """Run all stages; after each that fails, put something in its place and go on. Stage → what it said."""
    from golf.doctor.stand_in import stand_in
    from golf.pipeline.stage import STAGES, stage_result

    failures: dict[str, str] = {}
    while True:
        code, said = execute(run, deadline - time.monotonic(), config_dirs)
        stopped = next((stage for stage in STAGES if stage_result(run, stage) is None), None)
        if stopped is None:
            if code not in (0, OVER_LIMIT):
                failures["report"] = reason(code, said)
            return failures
        again = stopped in failures
        failures.setdefault(stopped, reason(code, said))
        if again or time.monotonic() >= deadline or not stand_in(run, stopped):
            return failures


def execute(run: Path, seconds: float, config_dirs: tuple[Path, ...] = ()) -> tuple[int, list[str]]:
    """Exit code, and what the run said on stderr; its whole process group ends with it."""
    import golf

    package = str(Path(golf.__file__).resolve().parent.parent)
    own = [str(folder.resolve().parent) for folder in config_dirs]
    paths = [package, os.getcwd(), *own, os.environ.get("PYTHONPATH", "")]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "WANDB_MODE": "disabled"}
    process = subprocess.Popen(
        [sys.executable, "-c", START, f"run={run}"],
        cwd=run.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=max(seconds, 1.0))[1]
    except BaseException as error:  # the user's Ctrl-C must not leave ranks behind either
        end_group(process)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return 124, [TIME_OVER]
    return process.returncode, [line.strip() for line in said.splitlines() if line.strip()]


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a child and everything that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (OSError, AttributeError):
        process.kill()
    process.communicate()


def reason(code: int, said: list[str]) -> str:
    """The line that matters: golf's own, else the last one."""
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        name = {int(known): known.name for known in signal.Signals}.get(number, f"signal {number}")
        hint = ", probably for want of memory" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    own = [line.removeprefix("golf: ") for line in said if line.startswith("golf: ")]
    return (own or said or [f"ended with exit code {code}"])[-1][:300]


def stage_lines(run: Path, failures: dict[str, str]) -> list[Line]:
    """A line per stage from its manifest; a failed one says why, a replaced one what went on in its place."""
    from golf.doctor.stand_in import INSTEAD
    from golf.pipeline.stage import STAGES, stage_result

    lines, instead = [], ""
    for stage in STAGES:
        result = stage_result(run, stage)
        if failures.get(stage) == TIME_OVER:
            lines.append(Line("fail", f"run {stage}", TIME_OVER, "--timeout <more seconds>, or --tiny", UNKNOWN))
        elif stage in failures:
            lines.append(Line("fail", f"run {stage}", failures[stage], todo_for(stage), LOST))
            instead = INSTEAD.get(stage, instead)
        elif result is None:
            lines.append(Line("fail", f"run {stage}", "not reached", "mend the stage above", UNKNOWN))
        else:
            note = f" (with {instead})" if instead else ""
            lines.append(Line("ok", f"run {stage}", f"{result['stage_seconds']:.1f} s{detail(stage, result)}{note}"))
    if lines[-1].status == "fail" and "report" not in failures:
        return lines
    if "report" in failures or not (run / "report.html").is_file():
        said = failures.get("report", "no report.html")
        lines.append(Line("fail", "run report", said, "golf runs report <run>", "what was measured would not be shown"))
    else:
        lines.append(Line("ok", "run report", "report.html"))
    return lines


def todo_for(stage: str) -> str:
    """Where to look first."""
    return {
        "train": "hardware.micro_batch_tokens=<fewer> if memory ran out, else golf check",
        "average": "average=none, or eval=contiguous",
        "calibrate": "quant/calibration=self_generated, or quant=int6_rows",
        "quantise": "quant=int8_rows",
        "pack": "codec=lzma",
        "verify": "codec=lzma",
        "score": "eval.batch_tokens=<fewer> if memory ran out, ttt=none to leave adaptation out",
    }[stage]


def detail(stage: str, result: dict[str, Any]) -> str:
    if stage == "train":
        memory = result.get("peak_memory_bytes")
        peak = f", {memory / 1e9:,.1f} GB at most" if memory else ""
        return f", {result['steps']} steps, {result['parameters']:,} parameters{peak}"
    if stage == "pack":
        return f", {result['artifact_bytes']:,} bytes of model, {result['code_bytes'] or 0:,} of code"
    if stage == "verify" and "tensors" in result:
        return f", {result['tensors']} tensors decode bit for bit"
    if stage in ("average", "score") and result["ladder"]:
        return ", " + ", ".join(f"{rung['stage']} {rung['bpb']:.3f} BPB" for rung in result["ladder"])
    return ""


def pace(run: Path, config: dict[str, Any], subject: Subject, arguments: Any) -> list[Line]:
    """Milliseconds per optimizer step of the real batch, measured here, against the forecast of `golf plan`."""
    from golf.doctor.throughput import step_line
    from golf.pipeline.stage import stage_result
    from golf.size.library import read_library
    from golf.size.plan import hardware_line, network_of
    from golf.size.speed import step_seconds
    from golf.training.flops import training_flops_per_token

    measured = (stage_result(run, "train") or {}).get("step_ms_p50")
    if not measured or subject.config is None or not subject.asked:
        return []
    asked = subject.config
    measured *= asked["data"]["tokens_per_step"] / config["data"]["tokens_per_step"]
    if arguments.step_ms is not None:
        return [step_line(measured, arguments.step_ms, "--step-ms", arguments.tolerance)]
    flops = training_flops_per_token(network_of(asked), asked["data"]["seq_len"])
    library = read_library(Path("runs"))
    expected, source = step_seconds(asked, subject.option, flops, library, hardware_line(asked))
    return [step_line(measured, expected * 1e3 if expected else None, source, arguments.tolerance)]
