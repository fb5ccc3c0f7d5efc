"""Pictures of several runs: bytes × BPB with the pareto front marked, and seeds with the interval of their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from golf.report.format import decimal
from golf.report.svg import (
    ACCENT,
    BLUE,
    CARD,
    INK,
    LETTER,
    LINE,
    SOFT,
    WIDTH,
    Axes,
    document,
    dot,
    ending,
    path,
    shortened,
    text,
    widened,
)

MOST_ROWS, MOST_LABELS, MOST_LETTERS = 40, 24, 34


@dataclass(frozen=True)
class Point:
    """One entry: mean BPB, its 95 % interval where there are seeds for one, every seed, the largest bytes."""

    label: str
    bpb: float
    bytes: int | None
    seeds: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats or equals in both bytes and BPB, by bytes."""
    found: list[Point] = []
    known = [point for point in points if point.bytes is not None]
    for point in sorted(known, key=lambda one: (one.bytes or 0, one.bpb)):
        if not found or point.bpb < found[-1].bpb:
            found.append(point)
    return found


def pareto_picture(points: Sequence[Point], title: str, standalone: bool = True) -> str | None:
    """Bytes as shipped across, BPB up; points on the front are filled, joined by its steps, and named."""
    known = [point for point in points if point.bytes is not None]
    if not known:
        return None
    sizes = [float(point.bytes or 0) for point in known]
    scores = [value for point in known for value in (point.bpb, *point.seeds)]
    axes = Axes(86, 92, WIDTH - 40, 430, widened(sizes), widened(scores, 0.12))
    best = front(known)
    shapes = [
        text(20, 30, ending(title, 90), size=17, weight=600),
        text(20, 53, "Filled: the pareto front, where no entry is both smaller and better.", SOFT),
        *axes.frame("bytes, code included", "bits per byte, smaller is better"),
    ]
    corners: list[tuple[float, float]] = []
    for point in best:
        x, y = axes.x(float(point.bytes or 0)), axes.y(point.bpb)
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    shapes.append(path([*corners, (axes.right, corners[-1][1])], ACCENT, 1.5, "opacity:.55;stroke-dasharray:5 4"))
    for point in sorted(known, key=lambda one: one in best):
        shapes += _mark(axes, point, point in best)
    shapes += _labels(axes, best[:MOST_LABELS], known)
    told = f"{title}: {len(known)} entries, {len(best)} on the front"
    return document(490, told, shapes, standalone)


def _mark(axes: Axes, point: Point, on_front: bool) -> list[str]:
    x, y = axes.x(float(point.bytes or 0)), axes.y(point.bpb)
    told = f"{point.label}: {point.bpb:.5f} BPB, {point.bytes:,} bytes"
    shapes = []
    if len(point.seeds) > 1 and point.low is not None and point.high is not None:
        shapes.append(path([(x, axes.y(point.low)), (x, axes.y(point.high))], ACCENT if on_front else SOFT, 1.5))
    shapes += [dot(x, axes.y(seed), 2.2, SOFT) for seed in point.seeds if len(point.seeds) > 1]
    colour = ACCENT if on_front else CARD
    return [*shapes, dot(x, y, 6 if on_front else 4.5, colour, told, f"stroke:{ACCENT if on_front else SOFT}")]


def _labels(axes: Axes, best: Sequence[Point], known: Sequence[Point]) -> list[str]:
    """Names of the front's points where they cover neither a point, nor the front's line, nor another name."""
    taken = [(axes.x(float(p.bytes or 0)) - 6, axes.y(p.bpb) - 6, 12.0, 12.0) for p in known]
    for before, after in pairwise(best):
        x, (top, bottom) = axes.x(float(after.bytes or 0)), (axes.y(before.bpb), axes.y(after.bpb))
        taken += [(x - 2, top, 4.0, bottom - top)]
    shapes = []
    for point in best:
        words = shortened(point.label, MOST_LETTERS)
        x, y, width = axes.x(float(point.bytes or 0)), axes.y(point.bpb), len(words) * 12.5 * LETTER
        above, below = y - 22, y + 6  # the front's line leaves a point to the right, and comes from above
        for left, top in ((x + 9, above), (x + 9, below), (x - 10 - width, below), (x - 10 - width, y - 9)):
            box = (left, top, width, 14.0)
            inside = axes.left <= left and left + width <= axes.right + 34 and axes.top - 8 <= top
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                end = left < x  # a name to the left ends beside its point
                shapes.append(text(x - 10 if end else left, top + 13, words, INK, 12, "end" if end else "start"))
                break
    return shapes


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


def intervals_picture(points: Sequence[Point], title: str, standalone: bool = True) -> str | None:
    """A row per entry, best first: seeds as small discs, their mean, and its 95 % interval."""
    rows = sorted(points, key=lambda point: point.bpb)
    if not rows:
        return None
    hidden, rows = len(rows) - MOST_ROWS, rows[:MOST_ROWS]
    seeds = [value for point in rows for value in (point.bpb, *point.seeds)]
    low, high = widened(seeds, 0.15)
    span = high - low  # two seeds have very wide intervals: they may be cut, the numbers stand beside them
    low = max(low - span, min([low, *(p.low for p in rows if p.low is not None)]))
    high = min(high + span, max([high, *(p.high for p in rows if p.high is not None)]))
    left = 40 + max(60, max(len(shortened(p.label, MOST_LETTERS)) for p in rows) * 13 * LETTER)
    axes = Axes(left, 78, WIDTH - 190, 78 + 30 * len(rows), (low, high), (0, 1))
    shapes = [text(20, 30, ending(title, 90), size=17, weight=600)]
    cut = any((p.low or low) < low or (p.high or high) > high for p in rows)
    about = "Disc: a seed. Bar: 95 % interval of the mean (Student's t)" + (", cut at the edges." if cut else ".")
    shapes.append(text(20, 53, about, SOFT))
    frame = axes.frame("bits per byte, smaller is better", "")
    shapes += [shape for shape in frame if "middle" in shape or "smaller" in shape]
    for place, point in enumerate(rows):
        y = axes.top + 30 * place + 15
        shapes.append(path([(axes.left, y + 15), (axes.right, y + 15)], LINE, 1))
        shapes.append(text(20, y + 4, shortened(point.label, MOST_LETTERS), INK))
        if point.low is not None and point.high is not None:
            ends = (max(point.low, low), min(point.high, high))
            shapes.append(path([(axes.x(ends[0]), y), (axes.x(ends[1]), y)], BLUE, 9, "opacity:.3;stroke-linecap:butt"))
        shapes += [dot(axes.x(seed), y, 3.5, BLUE, f"{seed:.5f}") for seed in point.seeds]
        x = axes.x(point.bpb)
        shapes.append(path([(x, y - 9), (x, y + 9)], INK, 2))
        shapes.append(text(WIDTH - 20, y + 4, told_mean(point), INK, 13, "end"))
    if hidden > 0:
        shapes.append(text(20, axes.bottom + 24, f"and {hidden:,} more", SOFT, 12))
    label = f"{title}: " + ", ".join(f"{p.label} {told_mean(p)}" for p in rows)
    return document(axes.bottom + 58, label, shapes, standalone)


def told_mean(point: Point) -> str:
    """The mean with half the width of its interval."""
    if point.low is None or point.high is None:
        return decimal(point.bpb, 5)
    return f"{point.bpb:.5f} ± {(point.high - point.low) / 2:.5f}"
