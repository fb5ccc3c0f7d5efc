"""Throughput and clock of a run: step time and tokens per second, and both clocks against their limits.

Same contract as `golf.report.sections`: RunData in, markup out, and nothing raises on incomplete data.
"""

import re
from typing import Any

from golf.report import charts
from golf.report.charts import Series, placed
from golf.report.collect import Curve, RunData
from golf.report.elements import Cell, section, table
from golf.report.format import duration, finite, percent, plain
from golf.report.ladder import rungs

BUDGET = re.compile(r"^budget:\n((?:[ \t]+.*\n?)+)", re.MULTILINE)


def throughput(run: RunData, data: dict[str, Any]) -> str:
    """Tokens per second and step time over the run, with median and p99."""
    drawn = []
    for key, name, unit, style in (
        ("tokens_per_second", "Throughput", "tokens per second", "speed"),
        ("step_ms", "Step time", "milliseconds", "time"),
    ):
        curve = run.curves.get(key)
        if curve is None:
            drawn.append(charts.line_chart(key, name, unit, []))
            continue
        p50, p99, note = curve.median, curve.p99, ""
        if key == "step_ms" and finite(run.summary.get("step_ms_p50")) is not None:
            p50, p99 = finite(run.summary["step_ms_p50"]), finite(run.summary.get("step_ms_p99"))
        elif key == "step_ms":
            note = "p50 and p99 are those of the logged values."
        guides = [("p50" if key == "step_ms" else "median", p50)] if p50 is not None else []
        guides += [("p99", p99)] if p99 is not None and key == "step_ms" else []
        cap = 1.6 * max(curve.p99 or 0, p99 or 0) if key == "step_ms" else None
        series = [Series(name.lower(), curve, style)]
        drawn.append(charts.line_chart(key, name, unit, series, from_zero=True, cap=cap, guides=guides, note=note))
    return section("throughput", "Throughput", f'<div class="pair">{placed(drawn, data)}</div>{_clocks(run, data)}')


def budget_of(run: RunData) -> dict[str, float]:
    """The limits of the run's configuration that are numbers above zero (0 means unlimited)."""
    block = BUDGET.search(run.texts.get("config.yaml", ""))
    pairs = re.findall(r"^\s+(\w+):\s*([\d.]+)\s*(?:#.*)?$", block[1] if block else "", re.MULTILINE)
    return {key: float(value) for key, value in pairs if re.fullmatch(r"\d+(\.\d+)?", value) and float(value) > 0}


def _clocks(run: RunData, data: dict[str, Any]) -> str:
    """Training clock over the steps, and what each clock came to."""
    limits, body = budget_of(run), []
    rows = [("Training", run.summary.get("train_seconds"), limits.get("max_seconds"), "steps of the optimizer")]
    for rung in rungs(run.summary):
        protocol = plain(rung.get("protocol") or "")
        rows.append(
            (f"Scoring {plain(rung.get('stage'))}", rung.get("seconds"), limits.get("evaluation_seconds"), protocol)
        )
    for name, seconds, limit, about in rows:
        spent = finite(seconds)
        if spent is None:
            continue
        share = percent(spent, limit) if limit else "–"
        cells = [Cell(duration(spent), spent), Cell(duration(limit) if limit else "none", limit)]
        body.append([Cell(name, name), *cells, Cell(share, spent / limit if limit else None), Cell(about, about)])
    drawn = []
    curve = _seconds(run)
    if curve is not None:
        guides = [("limit", limits["max_seconds"])] if "max_seconds" in limits else []
        series = [Series("clock", curve, "rate")]
        drawn.append(charts.line_chart("clock", "Training clock", "seconds", series, from_zero=True, guides=guides))
    columns = ["Clock", "Time", "Limit", "Of the limit", "Of"]
    clocks = table("clocks", "Clocks", columns, {1, 2, 3}, body) if body else ""
    return f'<div class="pair">{placed(drawn, data)}</div>{clocks}' if drawn else clocks


def _seconds(run: RunData) -> Curve | None:
    """The clock as a curve, from the densest of the run's curves."""
    dense = max(run.curves.values(), key=lambda curve: curve.logged, default=None)
    points = [(s, t) for s, t in zip(dense.steps, dense.seconds) if t is not None] if dense else []
    if not points:
        return None
    steps, seconds = [step for step, _ in points], [second for _, second in points]
    return Curve(steps, list(seconds), [None] * len(steps), seconds, seconds, seconds, logged=len(steps))
