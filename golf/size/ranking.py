"""Which matrices bear one bit less: the order of the rung `mixed`, from calibration data and weights alone.

Sensitivity = what the rounding error rises by with one bit less (golf/quant/bit_allocation.py), over what that saves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from golf.config.build import build
from golf.quant.bit_allocation import bits_of, rounding_error
from golf.quant.state import QuantisedState
from golf.size.rungs import FEWEST_MATRIX_BITS, Node, fewer_bits, format_of


def treatment_of(quant: Node, name: str, role: str) -> Any:
    """The node that treats a large tensor."""
    for pattern, treatment in (quant.get("overrides") or {}).items():
        if re.search(pattern, name):
            return treatment
    return quant.get(role)


def frozen(
    quant: Node, weights: Mapping[str, Tensor], roles: Mapping[str, str], hessians: Mapping[str, Tensor]
) -> Node:
    """A plan whose `mixed` has chosen as one without: its choice as overrides, so that no rung makes it choose anew."""
    if not quant.get("mixed"):
        return quant
    plan = build(quant)
    grids = quant["mixed"]["grids"] if "grids" in quant["mixed"] else [quant["mixed"]["fine"]]
    nodes = dict(zip(map(id, plan.fine), sorted(grids, key=lambda node: bits_of(_built(node)))))
    names: dict[int, list[str]] = {}
    for name, treatment in plan.routes(weights, roles, hessians).items():
        if id(treatment) in nodes:
            names.setdefault(id(treatment), []).append(name)
    own = {f"^(?:{'|'.join(re.escape(n) for n in found)})$": nodes[key] for key, found in names.items()}
    return {**quant, "mixed": None, "overrides": {**own, **(quant.get("overrides") or {})}}


def ranked(
    quant: Node,
    state: QuantisedState,
    weights: Mapping[str, Tensor],
    roles: Mapping[str, str],
    hessians: Mapping[str, Tensor],
) -> list[str]:
    """Matrices by the error that one bit less adds per byte it saves, least first."""
    costs: dict[str, float] = {}
    for name, weight in weights.items():
        if roles[name] != "matrix" or weight.ndim != 2 or "codes" not in state.tensors[name].parts():
            continue
        node = treatment_of(quant, name, roles[name])
        lower = fewer_bits(node, FEWEST_MATRIX_BITS)
        if lower is None:
            continue
        now, then = (rounding_error(weight, _built(item), hessians.get(name)) for item in (node, lower))
        costs[name] = (then - now) / weight.numel()
    return sorted(costs, key=lambda name: (costs[name], name))


def _built(node: Any) -> Any:
    return format_of(node) or build(node)
