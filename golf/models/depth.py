"""Depth plans: in which order the blocks are visited, and where the U-Net's skips are pushed and popped.

A plan has one or more phases; training may switch to a later one at a share of its budget, evaluation runs the last.
Each phase is a tuple of visits, fixed when the model is built: a compiled graph contains it, not a decision about it.
Invariant: within a phase skips are last in, first out, and a visit pops at most one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from golf.errors import UserError
from golf.progress import Progress


class Visit(NamedTuple):
    """One visit of a block: take in a skip with row `pop` of the skip weights before it, remember its output if `push`.

    layer, mlp_layer: whose attention and MLP matrices are used; None = the block's own. An index from the number of
    layers on means one of the extra MLPs of the plan.
    """

    block: int
    pop: int | None = None
    push: bool = False
    layer: int | None = None
    mlp_layer: int | None = None


class Phase(NamedTuple):
    """Visits that are used once training has reached the share `at` of its budget and step `start_step`."""

    visits: tuple[Visit, ...]
    at: float = 0.0
    start_step: int = 0

    def reached(self, progress: Progress) -> bool:
        return progress.fraction >= self.at and progress.step >= self.start_step


class DepthPlan(NamedTuple):
    """Phases in order. blocks: blocks to build; layers: those that have matrices of their own (the first ones).

    extra_mlps: layers of which a further MLP exists, index `layers` + position; it starts as a copy.
    rows: rows of skip weights, over all phases; None = as many as the visits pop.
    """

    phases: tuple[Phase, ...]
    blocks: int
    layers: int
    extra_mlps: tuple[int, ...] = ()
    rows: int | None = None

    def phase_at(self, progress: Progress) -> int:
        """Index of the phase that training is in."""
        if len(self.phases) == 1:
            return 0
        return max((i for i, phase in enumerate(self.phases) if phase.reached(progress)), default=0)


def skip_rows(phases: Sequence[Phase]) -> int:
    """Rows of skip weights that the visits of all phases take."""
    return max([v.pop for phase in phases for v in phase.visits if v.pop is not None], default=-1) + 1


def plan_of(phases: tuple[Phase, ...], blocks: int, layers: int, extra_mlps: tuple[int, ...] = ()) -> DepthPlan:
    """A plan with as many rows of skip weights as its visits take."""
    return DepthPlan(phases, blocks, layers, extra_mlps, skip_rows(phases))


def split_in_half(
    blocks: Sequence[int],
    layers: Sequence[int] | None = None,
    rows: int | None = None,
    beyond_rows: str = "pop",
    mlp_layers: Sequence[int] | None = None,
) -> tuple[Visit, ...]:
    """U-Net over a list of visits: the first floor(n/2) push, the k-th of the rest pops with row k, while there is one.

    Args:
        rows: skip weights there are; None = as many as are needed.
        beyond_rows: what the pops beyond `rows` do: "none" = nothing, "last" = use the last row again.
    """
    own = [None] * len(blocks) if layers is None else layers
    mlps = own if mlp_layers is None else mlp_layers
    half = len(blocks) // 2
    visits = []
    for index, (block, layer, mlp_layer) in enumerate(zip(blocks, own, mlps, strict=True)):
        k = index - half
        pop = k if 0 <= k < half else None
        if pop is not None and rows is not None and pop >= rows:
            pop = rows - 1 if beyond_rows == "last" and rows else None
        visits.append(Visit(block, pop, index < half, layer, mlp_layer))
    return tuple(visits)


def plain_depth(num_layers: int) -> DepthPlan:
    """Each block once, no skips."""
    return plan_of((Phase(tuple(Visit(block) for block in range(num_layers))),), num_layers, num_layers)


def unet_depth(num_layers: int) -> DepthPlan:
    """U-Net skips of the baseline: the first floor(L/2) blocks push, the later ones pop (last in, first out).

    The k-th block of the second half receives the output of block floor(L/2) - 1 - k, scaled by skip weight k.
    """
    return plan_of((Phase(split_in_half(range(num_layers))),), num_layers, num_layers)


def cycle_depth(num_layers: int, visits: int) -> DepthPlan:
    """`visits` visits that cycle through the blocks (i mod L), with U-Net skips over the visits (21 March, looped)."""
    if visits < num_layers:
        raise UserError(f"model.depth.visits={visits} leaves out blocks: type a number from {num_layers} on")
    return plan_of((Phase(split_in_half([i % num_layers for i in range(visits)])),), num_layers, num_layers)


def stem_core_tail_depth(num_layers: int, stem: int, core: int, repeats: int, skips: bool = True) -> DepthPlan:
    """The first `stem` blocks once, the next `core` blocks `repeats` times in order, the remaining blocks once."""
    tail = num_layers - stem - core
    if stem < 0 or core < 1 or tail < 0 or repeats < 1:
        raise UserError(
            f"model.depth: stem={stem} and core={core} do not fit {num_layers} layers, or repeats={repeats} < 1; "
            f"type model.depth.stem=0 model.depth.core={num_layers} model.depth.repeats=1"
        )
    order = [*range(stem), *[stem + i for _ in range(repeats) for i in range(core)], *range(stem + core, num_layers)]
    visits = split_in_half(order) if skips else tuple(Visit(block) for block in order)
    return plan_of((Phase(visits),), num_layers, num_layers)


def looped_order(num_layers: int, first: int, last: int, passes: int) -> list[int]:
    """0 … first-1, then first … last `passes` times, then last+1 … L-1."""
    return [*range(first), *[i for _ in range(passes) for i in range(first, last + 1)], *range(last + 1, num_layers)]


def check_loop(num_layers: int, first: int, last: int) -> None:
    if not 0 <= first <= last < num_layers:
        raise UserError(
            f"model.depth loops over blocks {first} to {last}, but there are blocks 0 to {num_layers - 1}: "
            f"type model.depth.first=0 model.depth.last={num_layers - 1}, or model.num_layers={max(first, last) + 1}"
        )


def check_starts(starts: Sequence[float]) -> None:
    for at in starts:
        if not 0.0 <= at <= 1.0:
            raise UserError(f"model.depth.at={at} is not a share of training between 0 and 1: type model.depth.at=0.5")


def loop_depth(
    num_layers: int,
    first: int,
    last: int,
    passes: Sequence[int] | int = 3,
    at: Sequence[float] | float = 0.5,
    start_step: int = 0,
    skip_rows: int | None = None,
    beyond_rows: str = "none",
) -> DepthPlan:
    """A U-Net that loops over blocks first … last, from a share of training on (records from 3 April 2026).

    Until then every block is visited once. The visits of a phase are split in half as in `split_in_half`; blocks, gains
    and norm scales are shared between passes.

    Args:
        passes: how often the loop is run in all; a list has one entry per phase (6 April: [2, 3] at [0.5, 0.65]).
        at: share of the budget at which the phase begins, one per entry of `passes`; 0 = from the start.
        start_step: earliest step of the first looped phase.
        skip_rows, beyond_rows: rows of skip weights and what happens to pops beyond them; None = as many as needed.
            The records of 3 and 4 April kept the five rows of the plain plan ("last", "none").
    """
    check_loop(num_layers, first, last)
    every = [passes] if isinstance(passes, int) else list(passes)
    starts = [float(at)] if isinstance(at, int | float) else [float(value) for value in at]
    if len(every) != len(starts) or any(n < 1 for n in every):
        raise UserError(
            f"model.depth.passes={every} and model.depth.at={starts} must be lists of one length, passes from 1 on: "
            "type model.depth.passes=3 model.depth.at=0.5"
        )
    check_starts(starts)
    phases = [
        Phase(
            split_in_half(looped_order(num_layers, first, last, n), rows=skip_rows, beyond_rows=beyond_rows),
            start,
            start_step,
        )
        for n, start in zip(every, starts)
    ]
    if starts[0] > 0 or start_step > 0:
        phases.insert(0, Phase(split_in_half(range(num_layers), rows=skip_rows, beyond_rows=beyond_rows)))
    return plan_of(tuple(phases), num_layers, num_layers)


def mini_recurrence_depth(
    num_layers: int,
    repeated: Sequence[int] = (4, 5),
    start_step: int = 3000,
    at: float = 0.0,
    untied_mlps: bool = True,
) -> DepthPlan:
    """Mini depth recurrence (record of 31 March 2026): some layers once more, right after the last of them.

    The repeats have the attention matrices of the layers they repeat and, if `untied_mlps`, MLP matrices of their own
    that begin as copies when the repeats begin. Scales, gains, norm constants and the choice of techniques by block
    follow the position in the plan, not the layer: position i uses block i (so they shift when the repeats begin).
    """
    wanted = sorted(repeated)
    if not wanted or wanted != list(range(wanted[0], wanted[0] + len(wanted))) or wanted[-1] >= num_layers:
        raise UserError(
            f"model.depth.repeated={list(repeated)} must be neighbouring layers below {num_layers}: "
            "type model.depth.repeated=[4,5]"
        )
    check_starts([at])
    after = wanted[-1] + 1
    layers = [*range(after), *wanted, *range(after, num_layers)]
    extra = [num_layers + i for i in range(len(wanted))] if untied_mlps else wanted
    mlp_layers = [*range(after), *extra, *range(after, num_layers)]
    phases = [Phase(split_in_half(range(len(layers)), layers, mlp_layers=mlp_layers), at, start_step)]
    if at > 0 or start_step > 0:
        phases.insert(0, Phase(split_in_half(range(num_layers))))
    return plan_of(tuple(phases), len(layers), num_layers, tuple(wanted) if untied_mlps else ())
