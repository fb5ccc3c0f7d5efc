"""`plan.*` of `golf plan`: a step time that was measured, in this project or elsewhere, and what a GPU-hour costs.

`plan.step_ms=` is a number you have; `plan.run=` a finished run whose median step is taken, in proportion to tokens,
FLOPs and devices of the planned step. Invariant: a projection names what it rests on, and a run on another kind of
machine is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from golf.config.nearest import offer
from golf.errors import UserError

PREFIX = "plan."


@dataclass(frozen=True)
class PlanSettings:
    """What was given; None = not."""

    step_ms: float | None = None
    run: str | None = None
    price_per_gpu_hour: float | None = None


def split_settings(overrides: Sequence[str]) -> tuple[PlanSettings, list[str]]:
    """The settings of the plan, and the overrides that are left for the run.

    Raises:
        UserError: an unknown key, no positive number, two sources of one number.
    """
    names, found = [item.name for item in fields(PlanSettings)], {}
    for text in overrides:
        if text.startswith(PREFIX):
            key, _, value = text.removeprefix(PREFIX).partition("=")
            if key not in names:
                raise UserError(f"{text}: golf plan has no {PREFIX}{key}; {offer(key, names)}; type plan.step_ms=121.6")
            found[key] = value if key == "run" else _positive(text, value)
    settings = PlanSettings(**found)
    if settings.step_ms is not None and settings.run is not None:
        raise UserError("plan.step_ms and plan.run are two sources of one step time: leave one of them out")
    return settings, [text for text in overrides if not text.startswith(PREFIX)]


def measured_step(
    settings: PlanSettings, config: Mapping[str, Any], option: str, flops_per_token: float
) -> tuple[float, str] | None:
    """Seconds per optimizer step and where they are from; None if no measurement was given.

    Raises:
        UserError: not a finished run, or one on another kind of machine.
    """
    if settings.step_ms is not None:
        return settings.step_ms / 1e3, f"given: plan.step_ms={settings.step_ms:g}"
    if settings.run is None:
        return None
    from golf.runs.library import read_row

    row = read_row(Path(settings.run))
    summary, ran = row.summary, row.config["hardware"]
    step_ms, tokens = summary.get("step_ms_p50"), row.config["data"]["tokens_per_step"]
    if not step_ms:
        raise UserError(f"plan.run={settings.run} has no step times: type a run that has trained to its end")
    planned = config["hardware"]["accelerator"]
    if planned != "auto" and planned != ran["accelerator"]:
        raise UserError(
            f"plan.run={settings.run} was measured on {summary.get('hardware')}, which says nothing about "
            f"hardware={option} ({planned}): type a run on that kind of machine, or plan.step_ms=<milliseconds>"
        )
    trained = summary.get("train_tokens") or 0
    own_flops = summary["flops"] / trained if summary.get("flops") and trained else flops_per_token
    work = config["data"]["tokens_per_step"] / tokens * flops_per_token / own_flops
    devices, own_devices = config["hardware"]["devices"], ran["devices"]
    source = f"measured: {step_ms:.1f} ms in run {settings.run} on {summary.get('hardware')}"
    if abs(work - 1) > 1e-3:
        source += f", times {work:.3g} for the FLOPs of the step"
    if devices != own_devices:
        source += f", times {own_devices}/{devices} for the devices as if they scaled perfectly"
    return step_ms / 1e3 * work * own_devices / devices, source


def _positive(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise UserError(f"{text}: a number above 0 is expected; type {text.partition('=')[0]}=121.6")
    return number
