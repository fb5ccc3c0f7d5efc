"""Line charts and the ladder chart as HTML with inline SVG.

Lines are drawn in an SVG of 1000 × 1000 units that stretches with the page, with strokes that do not stretch; all text
is HTML beside it, so it keeps its size on every screen. Points with no extent (`M x y h 0`) are drawn as round dots.
The numbers behind a chart go into the page's one JSON block (`Chart.data`), from which the hover readout is made.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from golf.report.collect import Curve
from golf.report.format import decimal, escape, short, signed, significant

UNITS = 1000


@dataclass
class Series:
    """One line of a chart; `style` is a CSS class: train, validation, rate, speed or time."""

    name: str
    curve: Curve
    style: str
    dots: bool = False


@dataclass
class Chart:
    """A chart's markup and the data for its readout."""

    markup: str
    data: dict[str, Any] = field(default_factory=dict)


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Return round values (1, 2, 2.5 or 5 times a power of ten) inside [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / target
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.8)
    first = math.ceil(low / step - 1e-9)
    values = []
    while (first + len(values)) * step <= high + step * 1e-9:
        values.append((first + len(values)) * step)
    return [0.0 if abs(value) < step * 1e-9 else value for value in values]


def _span(series: list[Series], from_zero: bool, cap: float | None) -> tuple[float, float]:
    low = min(min(one.curve.low) for one in series)
    high = max(max(one.curve.high) for one in series)
    if cap is not None and high > cap > low:
        high = cap
    if from_zero and low > 0:
        low = 0.0
    if high <= low:
        margin = abs(high) * 0.05 or 1.0
        return low - margin, high + margin
    margin = 0.04 * (high - low)
    return (low if from_zero and low == 0 else low - margin), high + margin


def line_chart(
    key: str,
    title: str,
    unit: str,
    series: list[Series],
    from_zero: bool = False,
    cap: float | None = None,
    guides: list[tuple[str, float]] | None = None,
    note: str = "",
    absent: str = "not there yet",
) -> Chart:
    """Draw curves over training steps; `cap` bounds the axis (what lies above is said), `guides` are level lines;
    `absent` is said where there is no curve."""
    series = [one for one in series if one.curve.logged]
    if not series:
        return Chart(f'<p class="empty">{escape(title)}: {escape(absent)}.</p>')
    y_low, y_high = _span(series, from_zero, cap)
    x_low = min(one.curve.steps[0] for one in series)
    x_high = max(one.curve.steps[-1] for one in series)
    x_high = x_high if x_high > x_low else x_low + 1
    x_low = 0.0 if 0 < x_low <= 0.1 * x_high else x_low

    def x_of(value: float) -> float:
        return UNITS * (value - x_low) / (x_high - x_low)

    def y_of(value: float) -> float:
        return UNITS * (1 - (min(max(value, y_low), y_high) - y_low) / (y_high - y_low))

    shapes, legend, data = [], [], []
    for value in ticks(y_low, y_high):
        shapes.append(f'<path class="grid" d="M0 {y_of(value):.1f}H{UNITS}"/>')
    for one in series:
        shapes.append(_shape(one, x_of, y_of))
        if len(series) > 1:
            legend.append(f'<span class="key {one.style}{" dots" if one.dots else ""}">{escape(one.name)}</span>')
        data.append(_readout_data(one))
    for name, level in guides or []:
        if y_low <= level <= y_high:
            shapes.append(f'<path class="guide" d="M0 {y_of(level):.1f}H{UNITS}"/>')
            legend.append(f'<span class="key guide">{escape(name)} {escape(significant(level))}</span>')
    sentences = [note] if note else []
    above = sum(1 for one in series for value in one.curve.high if value > y_high)
    if above:
        top = max(max(one.curve.high) for one in series)
        sentences.append(f"{above} point{'s' * (above > 1)} above the axis, the highest at {significant(top)} {unit}.")
    sentences += _sentences(series)
    marks = ticks(y_low, y_high)
    y_labels = "".join(
        f'<span style="top:{y_of(value) / 10:.2f}%">{escape(text)}</span>'
        for value, text in zip(marks, tick_texts(marks))
    )
    x_labels = "".join(
        f'<span style="left:{x_of(value) / 10:.2f}%">{escape(short(value))}</span>' for value in ticks(x_low, x_high, 6)
    )
    summary = f"{title}, {unit}, over steps {short(x_low)} to {short(x_high)}: " + "; ".join(
        f"{one.name} from {significant(one.curve.mean[0])} to {significant(one.curve.mean[-1])}" for one in series
    )
    markup = f"""<figure class="chart" data-chart="{escape(key)}">
<figcaption><h3>{escape(title)} <small>{escape(unit)}</small></h3>
<div class="legend">{"".join(legend)}</div></figcaption>
<p class="readout" aria-live="polite"></p>
<div class="frame"><div class="y-axis" aria-hidden="true">{y_labels}</div>
<div class="plot" tabindex="0" role="img" aria-label="{escape(summary)}">
<svg viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg>
<div class="cross" hidden></div></div>
<div class="x-axis" aria-hidden="true">{x_labels}</div><div class="x-title">training step</div></div>
{f'<p class="note">{escape(" ".join(sentences))}</p>' if sentences else ""}
</figure>"""
    return Chart(markup, {"x": [x_low, x_high], "y": [y_low, y_high], "unit": unit, "series": data})


def tick_texts(values: list[float]) -> list[str]:
    """Return the ticks with as many decimals as tell them apart, the same for all."""
    if max(map(abs, values)) >= 10_000:
        return [short(value) for value in values]
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) / 10 or 1.0
    if step < 1e-6:
        return [significant(value) for value in values]
    digits = next((digits for digits in range(7) if abs(round(step, digits) - step) < 1e-3 * step), 6)
    return [f"{value:,.{digits}f}" for value in values]


def _shape(one: Series, x_of: Any, y_of: Any) -> str:
    curve = one.curve
    points = [(x_of(step), y_of(value)) for step, value in zip(curve.steps, curve.mean)]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if len(points) == 1:
        line += "h0"
    shapes = [f'<path class="line {one.style}" d="{line}"/>']
    if curve.per_point > 1:
        upper = [f"{x:.1f} {y_of(value):.1f}" for (x, _), value in zip(points, curve.high)]
        lower = [f"{x:.1f} {y_of(value):.1f}" for (x, _), value in zip(points, curve.low)]
        shapes.insert(0, f'<path class="band {one.style}" d="M{"L".join(upper + lower[::-1])}Z"/>')
    if (one.dots and len(points) <= 60) or len(points) == 1:
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
        shapes.append(f'<path class="dots {one.style}" d="{dots}"/>')
    return "".join(shapes)


def _readout_data(one: Series) -> dict[str, Any]:
    curve = one.curve

    def rounded(values: list[Any]) -> list[Any]:
        return [None if value is None else float(f"{value:.6g}") for value in values]

    return {
        "name": one.name,
        "style": one.style,
        "steps": [int(step) if step == int(step) else step for step in curve.steps],
        "seconds": rounded(curve.seconds),
        "tokens": curve.tokens if any(token is not None for token in curve.tokens) else [],
        "values": rounded(curve.mean),
        "low": rounded(curve.low) if curve.per_point > 1 else [],
        "high": rounded(curve.high) if curve.per_point > 1 else [],
    }


def _sentences(series: list[Series]) -> list[str]:
    sentences = []
    for one in series:
        widest = max(high - low for low, high in zip(one.curve.low, one.curve.high))
        if one.curve.per_point > 1 and widest > 0.01 * (max(one.curve.high) - min(one.curve.low)):
            sentences.append(
                f"{one.name.capitalize()}: each point is the mean of {one.curve.per_point} logged values, "
                "the band their minimum and maximum."
            )
        if one.curve.not_finite:
            sentences.append(
                f"{one.name.capitalize()}: {one.curve.not_finite:,} values were not finite and are left out."
            )
    return sentences


def placed(drawn: list[Chart], data: dict[str, Any]) -> str:
    """The markup of charts, whose numbers go into the page's one JSON block."""
    for chart in drawn:
        if chart.data:
            data[chart.markup.split('data-chart="', 1)[1].split('"', 1)[0]] = chart.data
    return "".join(chart.markup for chart in drawn)


def ladder_chart(rows: list[tuple[str, float, float | None]]) -> str:
    """Draw (stage, BPB, delta) as dots on one axis that need not start at zero; smaller is better, to the left."""
    if not rows:
        return ""
    values = [bpb for _, bpb, _ in rows]
    low, high = min(values), max(values)
    margin = 0.12 * (high - low) or 0.02 * abs(high) or 0.01
    low, high = low - margin, high + margin

    def x_of(value: float) -> float:
        return 100 * (value - low) / (high - low)

    marks = ticks(low, high, 4)
    height = UNITS / len(rows)
    centres = [(10 * x_of(bpb), (index + 0.5) * height) for index, (_, bpb, _) in enumerate(rows)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in centres)
    grid = "".join(f'<path class="grid" d="M{10 * x_of(mark):.1f} 0V{UNITS}"/>' for mark in marks)
    dots = "".join(f'<path class="dots rung" d="M{x:.1f} {y:.1f}h0"/>' for x, y in centres)
    labels = "".join(f"<span>{escape(stage)}</span>" for stage, _, _ in rows)
    numbers = "".join(
        f"<span><b>{decimal(bpb)}</b><small>{'' if delta is None else signed(delta)}</small></span>"
        for _, bpb, delta in rows
    )
    axis = "".join(
        f'<span style="left:{x_of(mark):.2f}%">{text}</span>' for mark, text in zip(marks, tick_texts(marks))
    )
    text = "Ladder in bits per byte: " + ", ".join(f"{stage} {decimal(bpb)}" for stage, bpb, _ in rows)
    return f"""<figure class="ladder-chart" role="img" aria-label="{escape(text)}">
<div class="rungs" aria-hidden="true" style="height:{max(2, len(rows)) * 2.1:.1f}rem">{labels}</div>
<div class="track" aria-hidden="true"><svg viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none">{grid}
<path class="line rung" d="{path}"/>{dots}</svg></div>
<div class="numbers" aria-hidden="true">{numbers}</div>
<div class="x-axis" aria-hidden="true">{axis}</div>
<div class="x-title" aria-hidden="true">bits per byte, smaller is better</div></figure>"""
