"""How long and how dear training will be: from past runs on the same machine, else from what records published.

Seconds per step = FLOPs per token · tokens per step / FLOP/s that were sustained. Every number says where it is from;
what is not known is None, never a guess without a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from golf.size.library import PastRun

# Sustained model FLOP/s per H100, as golf counts FLOPs, from the published steps of 46 records (600 s each):
# 1.5e14 to 2.3e14 with PyTorch's attention (median 2.0e14), 2.5e14 to 2.7e14 with FlashAttention 3.
PUBLISHED_FLOPS = {"sdpa": 2.0e14, "fa3": 2.6e14}
H100 = ("h100x8", "h100x2", "h100x1", "h100x1_80min")
SHARE_OF_H100 = {**dict.fromkeys(H100, 1.0), "a100": 312 / 989}
PRICE_PER_DEVICE_HOUR = dict.fromkeys(H100, 2.5)  # dollars; reports of participants, $20 an hour for eight
PRICE_SOURCE = "participants' reports"
PUBLISHED_SECONDS, PUBLISHED_DEVICES = 600.0, 8


@dataclass(frozen=True)
class TrainingForecast:
    """Steps, tokens, seconds and dollars of the training clock; None where nothing is known.

    evaluation_seconds: the most that scoring may add (0 = no limit); cost_with_evaluation: with all of it.
    ends: what ends the run where that is not steps, tokens or seconds alone.
    """

    steps: int | None
    tokens: int | None
    seconds: float | None
    step_ms: float | None
    cost: float | None
    source: str
    gpu_hours: float | None = None
    price_per_gpu_hour: float | None = None
    price_source: str | None = None
    evaluation_seconds: float = 0.0
    cost_with_evaluation: float | None = None
    ends: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def step_seconds(
    config: Mapping[str, Any], option: str, flops_per_token: float, library: Sequence[PastRun], hardware: str | None
) -> tuple[float | None, str]:
    """Seconds per optimizer step, and where that is from.

    Args:
        option: the chosen hardware option (h100x8, cpu …).
        hardware: how a run on this machine would be described, None if it cannot run here.
    """
    tokens = config["data"]["tokens_per_step"]
    own = [run for run in library if hardware and run.hardware == hardware and run.tokens_per_second]
    if own:
        nearest = min(own, key=lambda run: abs(math.log((run.flops_per_token or flops_per_token) / flops_per_token)))
        scale = flops_per_token / (nearest.flops_per_token or flops_per_token)
        return tokens / float(nearest.tokens_per_second or 1) * scale, f"run {nearest.name}"
    published = config.get("published") or {}
    if option in H100 and published.get("steps"):
        seconds = PUBLISHED_SECONDS - config["budget"]["reserve_seconds"] / config["hardware"].get("time_scale", 1.0)
        devices, source = config["hardware"]["devices"], "published: this record's own steps"
        if devices != PUBLISHED_DEVICES:
            source += f", times {PUBLISHED_DEVICES}/{devices} for the devices as if they scaled perfectly"
        return seconds / published["steps"] * PUBLISHED_DEVICES / devices, source
    if option in SHARE_OF_H100:
        kind = "fa3" if "fa3" in str(config["model"].get("attention")).lower() else "sdpa"
        flops = PUBLISHED_FLOPS[kind] * SHARE_OF_H100[option] * config["hardware"]["devices"]
        return tokens * flops_per_token / flops, f"published: {flops:.2g} FLOP/s, the records' median with {kind}"
    return None, "unknown: no past run on this hardware"


def training_forecast(
    config: Mapping[str, Any],
    option: str,
    step: tuple[float | None, str],
    price: float | None = None,
    price_per_device: float | None = None,
) -> TrainingForecast:
    """Steps until the first limit of the budget, and what they take.

    Args:
        step: what `step_seconds` returned.
        price, price_per_device: dollars per hour of the whole machine or of a device; None = a published one.
    """
    budget, tokens_per_step = config["budget"], config["data"]["tokens_per_step"]
    seconds_per_step, source = step
    limits = [budget["max_steps"]] if budget["max_steps"] else []
    if budget["max_tokens"]:
        limits.append(math.ceil(budget["max_tokens"] / tokens_per_step))
    if budget["max_seconds"] and seconds_per_step:
        limits.append(int((budget["max_seconds"] - budget["reserve_seconds"]) / seconds_per_step))
    steps = min(limits) if limits and (seconds_per_step or not budget["max_seconds"]) else None
    if steps is None and budget["max_seconds"]:
        return TrainingForecast(None, None, budget["max_seconds"], None, None, source, ends=ends_by(config))
    seconds = steps * seconds_per_step if steps is not None and seconds_per_step else None
    devices, price_source = config["hardware"]["devices"], "given" if price or price_per_device else None
    if price is not None:
        price_per_device = price / devices
    elif price_per_device is None and option in PRICE_PER_DEVICE_HOUR:
        price_per_device, price_source = PRICE_PER_DEVICE_HOUR[option], PRICE_SOURCE
    hours = seconds / 3600 * devices if seconds is not None else None
    evaluation = float(budget["evaluation_seconds"])
    cost = with_evaluation = None
    if hours is not None and price_per_device is not None:
        cost, with_evaluation = (price_per_device * h for h in (hours, hours + evaluation / 3600 * devices))
    return TrainingForecast(
        steps,
        None if steps is None else steps * tokens_per_step,
        seconds,
        seconds_per_step * 1e3 if seconds_per_step else None,
        cost,
        source,
        hours,
        price_per_device,
        price_source,
        evaluation,
        with_evaluation,
        ends_by(config),
    )


def ends_by(config: Mapping[str, Any]) -> str | None:
    """What the budget does besides counting steps, tokens and seconds: a target loss, a fixed set of tokens."""
    budget, parts = config["budget"], []
    if budget.get("target_loss"):
        every = config["trainer"]["val_check_steps"] or budget["target_check_steps"]
        parts.append(
            f"ends sooner at validation loss {budget['target_loss']:g}, looked at every {every} steps: "
            "figures are those of a run that does not reach it"
        )
    if budget.get("unique_tokens"):
        passes = budget["max_tokens"] / budget["unique_tokens"]
        told = f": {passes:g} passes" if passes else ""
        parts.append(f"trains on the first {budget['unique_tokens']:,} tokens of the split{told}")
    return "; ".join(parts) or None
