"""Ways to make an export smaller, each as another configuration of the same group.

A rung maps a `quant` node (plain data) to nodes of rising damage and falling size; what comes out is an ordinary
configuration that the exported code carries too. A treatment that a rung does not understand stays as it is.
Invariant: nodes are changed in copies only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named

Node = dict[str, Any]
FORMAT_TARGET = "golf.quant.formats.QuantFormat"
ROLES = ("matrix", "embedding", "head", "table")
CLIP_STEPS = 40
FLOATS = ("as_is", "float32", "bfloat16", "float16")
FEWEST_EMBEDDING_BITS, FEWEST_MATRIX_BITS = 6, 4
FACTOR_DEFAULTS = {"golf.quant.gptq.Gptq": 12.85}


@dataclass(frozen=True)
class Variant:
    """One configuration that is tried: the changed node, and the change in words."""

    quant: Node
    change: str


def format_of(treatment: Any) -> QuantFormat | None:
    """The grid of a treatment in a `quant` node, None for floats and for algorithms."""
    if isinstance(treatment, str):
        return format_named(treatment) if treatment in FORMAT_NAMES else None
    if isinstance(treatment, dict) and treatment.get("_target_") == FORMAT_TARGET:
        return QuantFormat(**{key: value for key, value in treatment.items() if key != "_target_"})
    return None


def node_of(fmt: QuantFormat) -> Any:
    """A format as a treatment: its name if it has one, else a node with what differs from the defaults."""
    for name in FORMAT_NAMES:
        if format_named(name) == fmt:
            return name
    given = {field.name: getattr(fmt, field.name) for field in fields(QuantFormat)}
    return {
        "_target_": FORMAT_TARGET,
        **{f.name: given[f.name] for f in fields(QuantFormat) if given[f.name] != f.default},
    }


def widened(treatment: Any, factor: float) -> Any:
    """The treatment with clip and step `factor` times as wide, itself where it has none."""
    fmt = format_of(treatment)
    if fmt is not None:
        if fmt.number != "integer" or fmt.bits < 4:
            return treatment
        return node_of(replace(fmt, clip_factor=fmt.clip_factor * factor, scale_floor=fmt.scale_floor * factor))
    if isinstance(treatment, dict) and ("factor" in treatment or treatment.get("_target_") in FACTOR_DEFAULTS):
        before = treatment.get("factor", FACTOR_DEFAULTS.get(treatment["_target_"], 1.0))
        return {**treatment, "factor": round(before * factor, 4)}
    return treatment


def fewer_bits(treatment: Any, fewest: int, floats: bool = False) -> Any | None:
    """The treatment with one bit less (floats: in int8 rows), None where there is nothing below."""
    if treatment in FLOATS:
        return "int8_rows" if floats else None
    if isinstance(treatment, dict) and isinstance(treatment.get("bits"), int) and format_of(treatment) is None:
        return {**treatment, "bits": treatment["bits"] - 1} if treatment["bits"] > fewest else None
    fmt = format_of(treatment)
    if fmt is None or fmt.number != "integer" or fmt.step != 1 or fmt.bits <= fewest or fmt.scale_codes is not None:
        return None
    code_max = (fmt.code_max + 1) // 2 - 1
    code_min = -code_max - (fmt.code_min < -fmt.code_max)
    floor = fmt.scale_floor * fmt.code_max / code_max
    return node_of(replace(fmt, bits=fmt.bits - 1, code_max=code_max, code_min=code_min, scale_floor=floor))


def clip_variants(quant: Node, widest: float) -> list[Variant]:
    """Every integer format with other clips and steps, in small steps up to `widest`, or down to it where it is < 1."""
    found = []
    for step in range(1, CLIP_STEPS + 1):
        factor = 1.0 + (widest - 1.0) * step / CLIP_STEPS
        changed = {**quant, **{role: widened(quant[role], factor) for role in ROLES if role in quant}}
        changed["overrides"] = {name: widened(value, factor) for name, value in (quant.get("overrides") or {}).items()}
        if changed != {**quant, "overrides": quant.get("overrides") or {}}:
            found.append(Variant(changed, f"clips x {factor:.4g}"))
    return found


def embedding_variants(quant: Node) -> list[Variant]:
    """Embedding and head (and tables) with one bit less at a time."""
    found, current = [], quant
    while True:
        lower = {role: fewer_bits(current.get(role), FEWEST_EMBEDDING_BITS, floats=True) for role in ROLES[1:]}
        lower = {role: value for role, value in lower.items() if value is not None}
        if not lower:
            return found
        current = {**current, **lower}
        found.append(Variant(current, "fewer bits: " + ", ".join(lower)))


def mixed_variants(quant: Node, ranked: Sequence[str], treatment_of: Callable[[str], Any]) -> list[Variant]:
    """One bit less for the first matrix of `ranked`, the first two, and so on (least damage per byte first)."""
    found, groups = [], {}
    for count, name in enumerate(ranked, 1):
        lower = fewer_bits(treatment_of(name), FEWEST_MATRIX_BITS)
        if lower is None:
            continue
        groups.setdefault(repr(lower), (lower, []))[1].append(name)
        own = {f"^(?:{'|'.join(re.escape(n) for n in names)})$": value for value, names in groups.values()}
        changed = {**quant, "overrides": {**own, **(quant.get("overrides") or {})}}
        found.append(Variant(changed, f"one bit less in {count} of {len(ranked)} matrices"))
    return found


def prune_variants(quant: Node, available: int, steps: int = 64) -> list[Variant]:
    """The cheapest codes of ±1 zeroed, up to all of them."""
    found = []
    for step in range(1, steps + 1):
        count = available * step // steps
        correction = {"_target_": "golf.quant.cheapest.CheapestCodes", "count": count}
        if quant.get("correction"):
            correction["correction"] = quant["correction"]
        found.append(Variant({**quant, "correction": correction}, f"{count:,} codes of ±1 zeroed"))
    return found if available else []


def checked_rungs(rungs: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names of rungs, or one line about the one that does not exist."""
    for name in rungs:
        if name not in known:
            raise UserError(f"fit.rungs: '{name}' is not known: use some of {', '.join(known)}")
    return list(rungs)
