"""The order of blocks in networks of the public scripts, as golf's depth plans.

Loops (from 3 April 2026) share everything between passes; mini recurrence (31 March) has blocks beyond its layers. A
spec that lists the visits decides: where golf's own plan differs from the list, the list is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from golf.interop.upstream_settings import UnsupportedNetwork, setting, whole_numbers, words_of
from golf.models.depth import (
    DepthPlan,
    Phase,
    looped_order,
    mini_recurrence_depth,
    split_in_half,
)


def listed_depth(
    num_layers: int,
    orders: Sequence[Sequence[int]],
    at: Sequence[float],
    skip_rows: int | None = None,
    beyond_rows: str = "none",
) -> DepthPlan:
    """A U-Net over listed visits, one list per phase; skips as in golf.models.depth.split_in_half."""
    phases = [Phase(split_in_half(order, rows=skip_rows, beyond_rows=beyond_rows), a) for order, a in zip(orders, at)]
    return DepthPlan(tuple(phases), num_layers, num_layers)


def listed_visits(description: Any, first_half: int | None = None) -> list[int]:
    """One order of blocks from a list, a pair of lists, or a mapping with encoder and decoder lists.

    Raises:
        UnsupportedNetwork: no order, or one that is not split in half.
    """
    halves = description
    if isinstance(description, Mapping):
        keys = [key for word in ("enc", "dec") for key in description if word in key]
        if not keys:
            keys = [key for key in description if isinstance(description[key], list)][:1]
        halves = [description[key] for key in keys]
        halves = halves[0] if len(halves) == 1 else halves
    if not isinstance(halves, list) or not halves:
        raise UnsupportedNetwork(f"order of blocks {words_of(description)[:60]}")
    if isinstance(halves[0], list):
        encoder, decoder = halves
        if len(encoder) != (len(encoder) + len(decoder)) // 2:
            raise UnsupportedNetwork(f"encoder of {len(encoder)} and decoder of {len(decoder)} visits")
        return [*encoder, *decoder]
    return list(halves)


def recurrent_order(structure: Mapping[str, Any]) -> list[int] | None:
    """The visits with recurrence on that a spec lists, None if it lists none."""
    if structure.get("recurrent_encoder_indices") is not None:
        return listed_visits([structure["recurrent_encoder_indices"], structure["recurrent_decoder_indices"]])
    return listed_visits(structure["recurrent_v2p"]) if structure.get("recurrent_v2p") is not None else None


def loop_of(settings: Mapping[str, Any], layers: int) -> tuple[int, int, int] | None:
    """(first, last, passes) of the loop that the settings ask for, None for none."""
    repeated = whole_numbers(setting(settings, "recur_layers"))
    if repeated:
        if repeated != list(range(repeated[0], repeated[0] + len(repeated))):
            raise UnsupportedNetwork(f"repeated layers {repeated}")
        return repeated[0], repeated[-1], 2
    loops = setting(settings, "num_loops", 0)
    if not loops or (loops == 1 and setting(settings, "loop_start") is None):
        return None
    first, last = setting(settings, "loop_start"), setting(settings, "loop_end")
    if first is None or last is None or not 0 <= first <= last < layers:
        raise UnsupportedNetwork(f"looped layers (num_loops={loops}, loop_start={first}, loop_end={last})")
    return int(first), int(last), int(loops) + 1


def depth_node(
    layers: int, blocks: int, skip_rows: int, settings: Mapping[str, Any], structure: Mapping[str, Any], untied: int
) -> dict[str, Any]:
    """The depth node. `blocks`: sets of scales; `skip_rows`: rows of skip weights; `untied`: extra MLPs."""
    order = recurrent_order(structure)
    if blocks > layers:
        return mini_recurrence_node(layers, blocks, order, settings, untied)
    loop = loop_of(settings, layers)
    if order is None and loop is None:
        if structure.get("phase1") is not None:
            raise UnsupportedNetwork("structure.phase1 without a recurrence")
        kind = "unet_depth" if skip_rows or layers < 2 else "plain_depth"
        return {"_target_": f"golf.models.depth.{kind}", "_partial_": True}
    final = order if order is not None else looped_order(layers, *loop)  # type: ignore[misc]
    if max(final) >= layers or min(final) < 0:
        raise UnsupportedNetwork(f"visits {final} of {layers} layers")
    start = float(setting(settings, "loop_at", 0.5))
    orders, at = [list(range(layers)), final], [0.0, start]
    if structure.get("phase1") is not None:
        orders.insert(1, listed_visits(structure["phase1"]))
        at = [0.0, start, min(1.0, start + 0.15)]
    needed = max(len(visits) // 2 for visits in orders)
    rows: dict[str, Any] = {}
    if skip_rows < needed:
        rows = {"skip_rows": skip_rows, "beyond_rows": beyond_rows(skip_rows, settings, structure)}
    shared = {"_partial_": True, **rows}
    passes = [passes_of(visits, layers, loop) for visits in orders[1:]]
    if loop is not None and None not in passes and start > 0:
        ends = {"first": loop[0], "last": loop[1], "passes": passes, "at": at[1:]}
        return {"_target_": "golf.models.depth.loop_depth", **ends, **shared}
    return {"_target_": "golf.interop.upstream_depth.listed_depth", "orders": orders, "at": at, **shared}


def passes_of(visits: list[int], layers: int, loop: tuple[int, int, int] | None) -> int | None:
    """How often a loop is run in listed visits, None if they are not that loop."""
    if loop is None:
        return None
    passes = visits.count(loop[0])
    return passes if passes and visits == looped_order(layers, loop[0], loop[1], passes) else None


def beyond_rows(rows: int, settings: Mapping[str, Any], structure: Mapping[str, Any]) -> str:
    """What pops do for which there is no row of skip weights: listed, described, or as in the two records that did so.

    That of 3 April used the last row again; that of 4 April, with decoupled lanes, dropped them.
    """
    described = structure.get("skips", "")
    lists = [v for v in described.values() if isinstance(v, list)] if isinstance(described, Mapping) else [described]
    for listed in lists:
        if isinstance(listed, list) and listed:
            return "last" if len(listed) > rows else "none"
    words = words_of(described)
    if any(word in words for word in ("last", "clamp", "re-use", "reuse", "again", "min(")):
        return "last"
    if any(word in words for word in ("drop", "lost", "only the first", "ignored", "no skip", "without")):
        return "none"
    return "none" if setting(settings, "parallel_start") is not None else "last"


def mini_recurrence_node(
    layers: int, blocks: int, order: list[int] | None, settings: Mapping[str, Any], untied: int
) -> dict[str, Any]:
    """Blocks beyond the layers: repeated layers with scales (and perhaps MLPs) of their own."""
    repeated = whole_numbers(setting(settings, "recur_layers"))
    if len(repeated) != blocks - layers:
        raise UnsupportedNetwork(f"{blocks} blocks, {layers} layers and repeated layers {repeated}")
    own = whole_numbers(setting(settings, "repeat_untie_mlp_layers")) or repeated
    if untied and (own != repeated or setting(settings, "repeat_untie_mlp", "full") != "full" or untied != len(own)):
        raise UnsupportedNetwork(f"{untied} untied MLPs in layers {own} of the repeated {repeated}")
    start = max(1, int(setting(settings, "recur_start_step", 1)))
    arguments = {"repeated": repeated, "start_step": start, "untied_mlps": bool(untied)}
    plan = mini_recurrence_depth(layers, **arguments)
    visits = [visit.layer for visit in plan.phases[-1].visits]
    if order is not None and visits != order:
        raise UnsupportedNetwork(f"order of layers {order}")
    return {"_target_": "golf.models.depth.mini_recurrence_depth", "_partial_": True, **arguments}
