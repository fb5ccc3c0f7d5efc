"""Checks of `budget` and of how `hardware` stretches it, one line for each mistake."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def _number(config: Config, group: str, key: str) -> float | None:
    node = config.get(group)
    value = node.get(key) if isinstance(node, dict) else None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def hardware_scales(config: Config) -> list[str]:
    """Factors are positive, a wait is not negative."""
    lines = []
    for key, usual in (("relative_speed", "0.125"), ("time_scale", "1"), ("step_scale", "1")):
        value = _number(config, "hardware", key)
        if value is not None and value <= 0:
            lines.append(f"hardware.{key}={value:g} must be above 0; type hardware.{key}={usual}")
    wait = _number(config, "hardware", "rank_timeout_seconds")
    if wait is not None and wait != 0 and wait < 1:
        lines.append(
            f"hardware.rank_timeout_seconds={wait:g} must be at least 1, or 0 = wait for ever; "
            "type hardware.rank_timeout_seconds=120"
        )
    return lines


def target(config: Config) -> list[str]:
    """A target loss is a number of nats that is looked at, in a run that ends without it, too."""
    loss, every = _number(config, "budget", "target_loss"), _number(config, "budget", "target_check_steps")
    if loss is None or loss == 0:
        return []
    if loss < 0:
        return [f"budget.target_loss={loss:g} must be above 0 nats per token; type budget.target_loss=3.28"]
    lines = []
    if not _number(config, "trainer", "val_check_steps") and every is not None and every < 1:
        lines.append(f"budget.target_check_steps={every:g} must be at least 1; type budget.target_check_steps=125")
    if not any(_number(config, "budget", key) for key in ("max_tokens", "max_steps", "max_seconds")):
        lines.append("budget.target_loss: schedules need an end that comes anyway; type budget.max_tokens=10000000000")
    plan = config.get("eval")
    if isinstance(plan, dict) and str(plan.get("_target_")).endswith(".NoEvaluation"):
        lines.append("budget.target_loss: eval=none looks at no validation loss; type eval=contiguous")
    if _number(config, "trainer", "limit_val_batches") == 0:
        lines.append(
            "budget.target_loss: trainer.limit_val_batches=0 never validates; type trainer.limit_val_batches=1.0"
        )
    return lines


def unique_tokens(config: Config) -> list[str]:
    """A fixed set of tokens has room for one window."""
    unique, seq_len = _number(config, "budget", "unique_tokens"), _number(config, "data", "seq_len")
    if not unique or seq_len is None or unique > seq_len:
        return []
    return [
        f"budget.unique_tokens={unique:g} is less than one window of data.seq_len={seq_len:g} + 1; "
        "type budget.unique_tokens=100000000, or 0 for the whole split"
    ]
