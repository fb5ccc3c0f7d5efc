"""Another machine, the same training: what counts steps or seconds follows the hardware, the global batch never does.

Experiments are written for 8×H100 and their clock. A `hardware` preset says how fast it trains as a share of that
(`relative_speed`) and by how much it stretches the clock (`time_scale`); hence it makes
step_scale = relative_speed · time_scale of the steps, and every value that counts steps is multiplied by it. A horizon
of averaging h = 1/(1 - decay) is a count, too. What is typed on the command line stays as typed; a typed
`budget.max_seconds` counts against REFERENCE_SECONDS. Where steps or tokens limit a run, hardware does not change their
number, so nothing is rescaled. Invariant: `data.tokens_per_step` is never touched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

Config = dict[str, Any]
REFERENCE_SECONDS = 600.0  # the clock that experiments are written for, where one was typed over it

# Arguments that count optimizer steps, by the function or class that takes them; 0 and null stay as they are.
STEP_COUNTS: dict[str, tuple[str, ...]] = {
    "golf.optim.schedules.WarmdownSteps": ("warmdown_steps", "warmup_steps"),
    "golf.optim.schedules.WarmdownFraction": ("warmup_steps",),
    "golf.optim.schedules.Cosine": ("warmup_steps",),
    "golf.optim.schedules.LinearRamp": ("steps",),
    "golf.optim.averaging.Swa": ("every",),
    "golf.quant.qat.Qat": ("start_step", "alpha_steps"),
    "golf.quant.gradual_pruning.GradualPruning": ("every_steps",),
    "golf.data.coprime.CoprimeStream": ("ramp_steps",),
    "golf.models.depth.loop_depth": ("start_step",),
    "golf.models.depth.mini_recurrence_depth": ("start_step",),
}
DECAYS = {"average": "decay"}  # 1 - 1/steps, by group
SECONDS = ("max_seconds", "reserve_seconds", "evaluation_seconds")  # of the budget


def rescaled(config: Config, overrides: Sequence[str] = ()) -> Config:
    """The config with what counts steps or seconds as its hardware needs it; the input is left alone.

    Args:
        config: resolved, as composed. overrides: the command line, whose values stay.
    """
    hardware, budget = config.get("hardware"), config.get("budget")
    if not isinstance(hardware, dict) or not isinstance(budget, dict) or "optim" not in config:
        return config
    found, typed = copy.deepcopy(config), {text.lstrip("+").partition("=")[0] for text in overrides}
    stretch = _number(hardware.get("time_scale"), 1.0)
    for name in SECONDS:
        if f"budget.{name}" not in typed and _number(budget.get(name), 0.0):
            found["budget"][name] = budget[name] * stretch
    evaluation = found.get("eval")
    if isinstance(evaluation, dict) and evaluation.get("limit_seconds") == budget.get("evaluation_seconds"):
        evaluation["limit_seconds"] = found["budget"]["evaluation_seconds"]  # it follows the budget
    factor = step_scale(found, "budget.max_seconds" in typed)
    found["hardware"]["step_scale"] = factor
    if factor != 1.0 and factor > 0:
        for path, node, name in counted(found):
            if f"{path}.{name}" not in typed:
                node[name] = scaled_value(node[name], name == DECAYS.get(path), factor)
    return found


def step_scale(config: Config, typed_seconds: bool = False) -> float:
    """Steps of this run as a share of those its values are written for; 1 where that is not known, or not the clock's.

    Args:
        config: with the clock already stretched. typed_seconds: the clock is one that was typed.
    """
    hardware, budget = config["hardware"], config["budget"]
    given, speed = hardware.get("step_scale"), hardware.get("relative_speed")
    if given is not None:
        return _number(given, 1.0)
    seconds = _number(budget.get("max_seconds"), 0.0)
    if speed is None or seconds <= 0 or budget.get("max_steps") or budget.get("max_tokens"):
        return 1.0
    longer = seconds / REFERENCE_SECONDS if typed_seconds else _number(hardware.get("time_scale"), 1.0)
    return _number(speed, 1.0) * longer


def counted(config: Config) -> Iterator[tuple[str, Config, str]]:
    """(path, node, argument) of every value that counts steps, none of them 0 or null."""
    for path, node in _nodes(config, ""):
        target = str(node.get("_target_"))
        for name in (*STEP_COUNTS.get(target, ()), *filter(None, (DECAYS.get(path),))):
            if _number(node.get(name), 0.0) > 0:
                yield path, node, name


def scaled_value(value: Any, is_decay: bool, factor: float) -> Any:
    """The value of an argument after `factor` times as many steps: a count of at least 1, or a decay of at least 0."""
    if is_decay:
        return 1.0 - 1.0 / max(1.0, factor / (1.0 - value)) if value < 1 else value
    return max(1, round(value * factor))


def changes(before: Config, after: Config) -> list[str]:
    """`key 1200 -> 150` of everything that `rescaled` has changed."""
    clocks = [(f"budget.{name}", before["budget"].get(name), after["budget"].get(name)) for name in SECONDS]
    then = {f"{path}.{name}": node[name] for path, node, name in counted(before)}
    now = {f"{path}.{name}": node.get(name) for path, node, name in counted(before) for node in [_at(after, path)]}
    values = [*clocks, *((key, value, now[key]) for key, value in then.items())]
    return [f"{key} {old:g} -> {new:.6g}" for key, old, new in values if old != new]


def _nodes(value: Any, path: str) -> Iterator[tuple[str, Config]]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for key, item in value.items():
            yield from _nodes(item, f"{path}.{key}" if path else str(key))


def _at(config: Config, path: str) -> Config:
    for part in path.split("."):
        config = config[part]
    return config


def _number(value: Any, otherwise: float) -> float:
    return otherwise if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
