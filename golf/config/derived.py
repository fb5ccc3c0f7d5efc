"""What follows from a config and is therefore not asked for: shown by `golf show`, computed without torch.

Each value says exactly what it is; a value that cannot be computed from the config alone is left out.
"""

from __future__ import annotations

from typing import Any

from golf.config.cross_checks import number

Config = dict[str, Any]


def derived(config: Config) -> dict[str, Any]:
    """Name → value: head width, parameters, micro-steps, tokens, in reading order."""
    values: dict[str, Any] = {}
    values.update(_model(config))
    values.update(_steps(config))
    return values


def _model(config: Config) -> dict[str, Any]:
    width, heads = number(config, "model.width"), number(config, "model.num_heads")
    mult = number(config, "model.mlp_mult")
    values: dict[str, Any] = {}
    if width and heads and not width % heads:
        values["model.head_width"] = int(width // heads)
    if width and mult:
        values["model.mlp_hidden"] = round(mult * width)
    parameters = count_parameters(config)
    if parameters:
        values["model.parameters"] = parameters
    return values


def count_parameters(config: Config) -> int | None:
    """Parameters of the model, counted on a network without memory (torch's meta device); None if it cannot be built.

    Only where torch is loaded already, or asked for: importing it takes longer than everything else here.
    """
    import sys

    if "torch" not in sys.modules:
        return None
    import torch

    from golf.config.build import build
    from golf.errors import GolfError

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            net = build(config["model"])
    except (GolfError, TypeError, KeyError):
        return None
    return sum(parameter.numel() for parameter in net.parameters())


def _steps(config: Config) -> dict[str, Any]:
    tokens, spans = number(config, "data.tokens_per_step"), number(config, "data.spans_per_step")
    devices, seq_len = number(config, "hardware.devices") or 1, number(config, "data.seq_len")
    steps = number(config, "budget.max_steps")
    values: dict[str, Any] = {}
    if tokens and spans and not spans % devices:
        values["data.micro_steps_per_step"] = int(spans // devices)
        values["data.tokens_per_micro_step_and_device"] = int(tokens // spans)
    if tokens and seq_len and not tokens % seq_len:
        values["data.sequences_per_step"] = int(tokens // seq_len)
    if tokens and steps:
        values["budget.tokens_of_max_steps"] = int(tokens * steps)
    return values
