"""What a network's own parts say of each other: visits that do not exist, loops over missing blocks, starts that never
come. Asked before anything is built, so that a wrong index does not cost a paid minute. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LOOP, MINI = "golf.models.depth.loop_depth", "golf.models.depth.mini_recurrence_depth"
MEMORY, IN_ORDER = "golf.models.attention.cross_sequence.CrossSequenceAttention", "golf.data.stream.SequentialStream"
CYCLE, STEM = "golf.models.depth.cycle_depth", "golf.models.depth.stem_core_tail_depth"


def model_parts(config: dict[str, Any]) -> list[str]:
    """Every line about indices and starts of the model's parts."""
    model = config.get("model")
    layers = model.get("num_layers") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(layers, int) or layers < 1:
        return []
    parts = {name: part for name, part in model.items() if isinstance(part, dict)}
    depth = parts.get("depth", {})
    budget = config.get("budget")
    lines = [*_loop(depth, layers), *_starts(depth, budget if isinstance(budget, dict) else {})]
    if lines:
        return lines
    visits, blocks = _counts(depth, layers)
    memory = _memory(parts.get("attention", {}), visits, config)
    return [*_xsa(parts.get("xsa", {}), visits, blocks), *memory, *_indices(parts, blocks), *_heads(model)]


def _loop(depth: dict[str, Any], layers: int) -> Iterator[str]:
    target = depth.get("_target_")
    if target == LOOP:
        first, last = depth.get("first"), depth.get("last")
        if isinstance(first, int) and isinstance(last, int) and not 0 <= first <= last < layers:
            yield (
                f"model.depth loops over blocks {first} to {last}, but there are blocks 0 to {layers - 1}; type "
                f"model.num_layers={max(first, last) + 1}, or model.depth.first=0 model.depth.last={layers - 1}"
            )
    repeated = depth.get("repeated")
    if target == MINI and isinstance(repeated, list):
        missing = [block for block in repeated if not isinstance(block, int) or not 0 <= block < layers]
        if missing:
            yield (
                f"model.depth.repeated={repeated}: there is no block {missing[0]} in {layers} layers; type "
                f"model.depth.repeated=[{max(layers - 2, 0)},{layers - 1}], or model.num_layers={layers + 1} or more"
            )


def _starts(depth: dict[str, Any], budget: dict[str, Any]) -> Iterator[str]:
    """A phase begins within training; one that cannot begin would be exported untrained."""
    at = depth.get("at")
    for value in at if isinstance(at, list) else [at]:
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 1:
            yield (
                f"model.depth.at={value} is no share of training from 0 to below 1: the loop would never begin; "
                "type model.depth.at=0.5"
            )
    start, steps = depth.get("start_step"), budget.get("max_steps")
    if isinstance(start, int) and isinstance(steps, int) and 0 < steps <= start:
        yield (
            f"model.depth.start_step={start} is never reached with budget.max_steps={steps}; type "
            f"model.depth.start_step={steps // 2}"
        )


def _counts(depth: dict[str, Any], layers: int) -> tuple[int, int]:
    """(visits of the last phase, blocks)."""
    target, passes = depth.get("_target_"), depth.get("passes")
    if target == LOOP:
        most = passes[-1] if isinstance(passes, list) and passes else passes
        span = depth.get("last", 0) - depth.get("first", 0) + 1
        return layers + span * ((most if isinstance(most, int) else 1) - 1), layers
    if target == MINI:
        total = layers + len(depth.get("repeated") or [])
        return total, total
    if target == CYCLE and isinstance(depth.get("visits"), int):
        return depth["visits"], layers
    if target == STEM and isinstance(depth.get("core"), int) and isinstance(depth.get("repeats"), int):
        return layers + depth["core"] * (depth["repeats"] - 1), layers
    return layers, layers


def _xsa(xsa: dict[str, Any], visits: int, blocks: int) -> Iterator[str]:
    last_n, count = xsa.get("last_n"), xsa.get("count", "visit")
    total = blocks if count == "block" else visits
    if isinstance(last_n, int) and not 0 <= last_n <= total:
        yield f"model.xsa.last_n={last_n}: the network has {total} {count}s; type model.xsa.last_n={total}"


def _memory(attention: dict[str, Any], visits: int, config: dict[str, Any]) -> Iterator[str]:
    """Visits with memory exist, and scores and training rows are such that a window follows the one before."""
    if attention.get("_target_") != MEMORY:
        return
    last_n, data = attention.get("last_n"), config.get("data")
    if isinstance(last_n, int) and not 1 <= last_n <= visits:
        yield f"model.attention.last_n={last_n}: the network has {visits} visits; type model.attention.last_n={visits}"
    order = data.get("order") if isinstance(data, dict) else None
    if attention.get("train") is True and isinstance(order, dict) and order.get("_target_") != IN_ORDER:
        yield (
            "model.attention.train=true: a row sees the row before it, which is the text before it in sequential order "
            "only; type data/order=sequential or model.attention.train=false"
        )


def _indices(parts: dict[str, dict[str, Any]], blocks: int) -> Iterator[str]:
    """Blocks that parts name exist, and lanes begin before the end."""
    for part, key in (("values", "blocks"), ("residual", "attention_free")):
        named = parts.get(part, {}).get(key)
        missing = [b for b in named if not isinstance(b, int) or not 0 <= b < blocks] if isinstance(named, list) else []
        if missing:
            yield (
                f"model.{part}.{key}={named}: there is no block {missing[0]} among {blocks}; type "
                f"model.{part}.{key}=[{blocks - 1}]"
            )
    for part in ("lanes", "residual"):
        start = parts.get(part, {}).get("start")
        if isinstance(start, int) and not 0 <= start < blocks:
            yield (
                f"model.{part}.start={start}: the network has blocks 0 to {blocks - 1}, so it would never begin; type "
                f"model.{part}.start={max(blocks - 3, 0)}"
            )


def _heads(model: dict[str, Any]) -> Iterator[str]:
    """Rotated dimensions fit into a head."""
    rope = model.get("rope")
    dims = rope.get("dims") if isinstance(rope, dict) else None
    width, heads = model.get("width"), model.get("num_heads")
    if isinstance(dims, int) and isinstance(width, int) and isinstance(heads, int) and heads and not width % heads:
        head = width // heads
        if dims % 2 or not 2 <= dims <= head:
            yield f"model.rope.dims={dims} must be even and at most {head}, a head's width; type model.rope.dims={head}"
