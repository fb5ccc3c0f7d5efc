"""Depth plans: in which order the blocks are visited, and where the U-Net's skips are pushed and popped.

A plan is a tuple of visits, fixed when the model is built (a compiled graph contains it, not a decision about it).
"""

from typing import NamedTuple


class Visit(NamedTuple):
    """One visit of one block: add skip `pop` (times its weight) before it, remember its output if `push`."""

    block: int
    pop: int | None = None
    push: bool = False


def plain_depth(num_layers: int) -> tuple[Visit, ...]:
    """Each block once, no skips."""
    return tuple(Visit(block) for block in range(num_layers))


def unet_depth(num_layers: int) -> tuple[Visit, ...]:
    """U-Net skips of the baseline: the first floor(L/2) blocks push, the later ones pop (last in, first out).

    The k-th block of the second half receives the output of block floor(L/2) - 1 - k, scaled by skip weight k.
    """
    half = num_layers // 2
    down = [Visit(block, push=True) for block in range(half)]
    up = [Visit(half + k, pop=k if k < half else None) for k in range(num_layers - half)]
    return tuple(down + up)
