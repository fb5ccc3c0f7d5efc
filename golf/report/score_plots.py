"""Where the bits go: BPB by context, by place in the document, by length of the document and by shard, per rung.

Drawn from the `scores/<rung>.json` of a run (golf/evaluation/breakdown.py): exact sums per bin, so every point is the
bits of its bin over its bytes. Bins of places and lengths double, and so does their axis.
"""

import math
from typing import Any

from golf.report.charts import UNITS, ticks
from golf.report.collect import RunData
from golf.report.elements import Cell, folded, section, table
from golf.report.format import decimal, escape, finite, plain, short, whole

LINES = ("validation", "train", "rate", "speed", "time")
CHARTS = (
    ("context", "By context", "tokens read before the target", False),
    ("document_position", "By place in the document", "tokens since the document's beginning", True),
    ("document_length", "By length of the document", "tokens of the document", True),
)
MOST_RUNGS = len(LINES)
Point = tuple[float, float]


def score_plots(run: RunData) -> str:
    """The section; it says so where a run has no breakdown."""
    scored = [one for one in run.breakdowns if finite(one.get("bpb")) is not None][-MOST_RUNGS:]
    if not scored:
        return section("bits", "Where the bits go", '<p class="empty">This run has no scores/&lt;rung&gt;.json.</p>')
    parts = [_chart(scored, *chart) for chart in CHARTS]
    shards = [_shards(one) for one in scored]
    about = "Bits per byte of the targets in each bin; the exact sums are in the run's scores/<rung>.json."
    markup = parts[0] + f'<div class="pair">{"".join(parts[1:])}</div>' + "".join(shards)
    return section("bits", "Where the bits go", markup, about)


def _points(one: dict[str, Any], key: str, doubling: bool) -> list[Point]:
    """(bin, BPB) of the bins that have bytes."""
    rows = one.get(key)
    found: list[Point] = []
    for row in rows if isinstance(rows, list) else ():
        first, bpb = (finite(row.get(name)) if isinstance(row, dict) else None for name in ("from", "bpb"))
        if first is not None and bpb is not None and (first >= 1 or not doubling):
            found.append((math.log2(first) if doubling else first, bpb))
    return found


def _chart(scored: list[dict[str, Any]], key: str, title: str, axis: str, doubling: bool) -> str:
    """One line per rung."""
    lines = [(plain(one.get("stage")), _points(one, key, doubling)) for one in scored]
    lines = [(name, points) for name, points in lines if points]
    if not lines:
        return (
            f'<p class="empty">{escape(title)}: this tokenizer does not tell documents apart, or nothing is there.</p>'
        )
    xs, ys = ([point[axis] for _, points in lines for point in points] for axis in (0, 1))
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    x_high, y_margin = max(x_high, x_low + 1), 0.05 * (y_high - y_low) or 0.05 * abs(y_high) or 0.01
    y_low, y_high = y_low - y_margin, y_high + y_margin

    def at(point: Point) -> tuple[float, float]:
        x, y = (point[0] - x_low) / (x_high - x_low), (point[1] - y_low) / (y_high - y_low)
        return UNITS * x, UNITS * (1 - y)

    shapes = [f'<path class="grid" d="M0 {at((x_low, mark))[1]:.1f}H{UNITS}"/>' for mark in ticks(y_low, y_high)]
    for (_, points), style in zip(lines, LINES):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(at, points))
        shapes.append(f'<path class="line {style}" d="M{path}{"h0" if len(points) == 1 else ""}"/>')
    legend = "".join(f'<span class="key {style}">{escape(name)}</span>' for (name, _), style in zip(lines, LINES))
    y_labels = "".join(
        f'<span style="top:{at((x_low, mark))[1] / 10:.2f}%">{decimal(mark, 2)}</span>' for mark in ticks(y_low, y_high)
    )
    x_labels = "".join(
        f'<span style="left:{at((mark, y_low))[0] / 10:.2f}%">{short(2**mark if doubling else mark)}</span>'
        for mark in ticks(x_low, x_high, 6)
        if not doubling or mark == int(mark)
    )
    spoken = "; ".join(f"{name} from {decimal(points[0][1])} to {decimal(points[-1][1])}" for name, points in lines)
    return f"""<figure class="chart"><figcaption><h3>{escape(title)} <small>bits per byte</small></h3>
<div class="legend">{legend}</div></figcaption>
<div class="frame"><div class="y-axis" aria-hidden="true">{y_labels}</div>
<div class="plot" role="img" aria-label="{escape(f"{title}, bits per byte: {spoken}")}">
<svg viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg></div>
<div class="x-axis" aria-hidden="true">{x_labels}</div><div class="x-title">{escape(axis)}</div></div></figure>"""


def _shards(one: dict[str, Any]) -> str:
    """Exact sums per shard of one rung, folded."""
    rows = [row for row in one.get("shard") or () if isinstance(row, dict)]
    if not rows:
        return ""
    stage = plain(one.get("stage"))
    body = [
        [
            Cell(plain(row.get("name")), plain(row.get("name"))),
            Cell(whole(row.get("targets")), finite(row.get("targets"))),
            Cell(whole(row.get("bytes")), finite(row.get("bytes"))),
            Cell(decimal(row.get("bpb")), finite(row.get("bpb"))),
        ]
        for row in rows
    ]
    key = f"shards-{''.join(letter if letter.isalnum() else '-' for letter in stage)}"
    return folded(
        f"By shard: {stage}", table(key, f"Shards, {stage}", ["Shard", "Targets", "Bytes", "BPB"], {1, 2, 3}, body)
    )
