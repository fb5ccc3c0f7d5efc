"""Squarified treemap (Bruls, Huizing, van Wijk: Squarified Treemaps, 2000).

Invariant: the rectangles tile the given one exactly, in the order of the sizes, and areas are proportional to sizes.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Tile(NamedTuple):
    """A rectangle; the origin is the upper left corner."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], width: float, height: float) -> list[Tile]:
    """Return one tile per size; sizes must be positive and come largest first."""
    total = sum(sizes)
    if not sizes or total <= 0:
        return []
    areas = [size * width * height / total for size in sizes]
    tiles: list[Tile] = []
    x, y, start = 0.0, 0.0, 0
    while start < len(areas):
        side = min(width, height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(areas[start:end], side):
            end += 1
        thickness = sum(areas[start:end]) / side
        along = 0.0
        for area in areas[start:end]:
            length = area / thickness
            if width >= height:
                tiles.append(Tile(x, y + along, thickness, length))
            else:
                tiles.append(Tile(x + along, y, length, thickness))
            along += length
        if width >= height:
            x, width = x + thickness, max(width - thickness, 1e-12)
        else:
            y, height = y + thickness, max(height - thickness, 1e-12)
        start = end
    return tiles


def _worst(areas: Sequence[float], side: float) -> float:
    """Return the worst aspect ratio of a row of these areas laid along a side of this length."""
    total = sum(areas)
    return max(max(side * side * area / (total * total), total * total / (side * side * area)) for area in areas)
