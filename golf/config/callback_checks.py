"""What would wait for what never comes, or be passed over: monitors without validation, two starting points."""

from __future__ import annotations

from typing import Any

from golf.config.nearest import nearest

PROFILERS = ("simple", "advanced")
MONITORED = ("val/bpb", "val/loss")  # what validation hands to callbacks


def monitors(config: dict[str, Any]) -> list[str]:
    """A callback with a `monitor` needs validation during training, and a value that validation gives."""
    callbacks, trainer = config.get("callbacks"), config.get("trainer")
    if not isinstance(callbacks, dict) or not isinstance(trainer, dict):
        return []
    lines = []
    for name, node in callbacks.items():
        monitor = node.get("monitor") if isinstance(node, dict) else None
        if not isinstance(monitor, str):
            continue
        path = f"callbacks.{name}"
        if monitor not in MONITORED:
            best = (nearest(monitor, MONITORED) or [MONITORED[0]])[0]
            lines.append(
                f"{path}.monitor={monitor}: validation gives {' and '.join(MONITORED)}; type {path}.monitor={best}"
            )
        if trainer.get("val_check_steps") == 0 and not trainer.get("fast_dev_run"):
            lines.append(
                f"{path} would silently do nothing: it waits for {monitor}, but trainer.val_check_steps=0 never "
                "validates; type trainer.val_check_steps=100"
            )
    return lines


def starts(config: dict[str, Any]) -> list[str]:
    """A run starts from weights or goes on from a checkpoint; profilers have names."""
    lines = []
    if config.get("init_from") is not None and config.get("ckpt_path") is not None:
        lines.append("init_from and ckpt_path are both set: a checkpoint brings its own weights; leave init_from out")
    trainer = config.get("trainer")
    profiler = trainer.get("profiler") if isinstance(trainer, dict) else None
    if isinstance(profiler, str) and profiler not in PROFILERS:
        best = (nearest(profiler, PROFILERS) or [PROFILERS[0]])[0]
        allowed = f"null, {', '.join(PROFILERS)} or a node"
        lines.append(f"trainer.profiler={profiler}: allowed: {allowed}; type trainer.profiler={best}")
    return lines
