"""Every option of every part of the model, found in conf/model/*/, in a tiny variant; a new YAML is covered at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from tiny import options, tiny

from golf.config.build import build
from golf.config.compose import conf_dir
from golf.loop import seed_everything

MODEL_GROUPS = sorted(path.name for path in (conf_dir() / "model").iterdir() if path.is_dir())
MODEL_OPTIONS = [(group, option) for group in MODEL_GROUPS for option in options(f"model/{group}")]
NOT_HERE = {("backend", "fa3")}  # needs a package; its own test
RUNNABLE = [option for option in MODEL_OPTIONS if option not in NOT_HERE]
# What `tiny` does not shrink by itself, so that an option is in action there.
FITTING = {
    "weights/low_rank": ["model.weights.rank=4"],
    "weights/shared": ["model.weights.unique=2"],
    "lanes/decoupled": ["model.lanes.start=4"],
}
LAYERS = {"depth": 6}


def overrides_of(group: str, option: str) -> list[str]:
    return [f"model/{group}={option}", *FITTING.get(f"{group}/{option}", [])]


@cache
def config_of(group: str, option: str, *more: str) -> dict[str, Any]:
    """The tiny config with an option (composed once: it is read, never changed)."""
    return tiny([*overrides_of(group, option), *more], LAYERS.get(group, 3))


def network(config: dict[str, Any], awake: bool = True, seed: int = 0) -> Any:
    """The model of a config; `awake`: with every parameter away from the zeros and ones it starts with.

    (A part that contributes nothing would pass any test of its effect.)
    """
    seed_everything(seed)
    net = build(config["model"])
    if awake:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape).to(parameter.dtype))
    return net


def phases(net: Any) -> Iterator[int]:
    """Puts a network into each of its depth phases."""
    for phase in range(len(net.plan.phases)):
        net.phase = phase
        yield phase
