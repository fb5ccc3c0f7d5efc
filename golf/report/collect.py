"""Reads a run folder for the report: whatever is there, whatever state it is in.

Invariant: nothing here raises because a file of the run is missing, half-written or strange; what could not be read is
named in `RunData.notes`. Curves are thinned to at most MAX_POINTS points, each the mean of equally many logged values
with their minimum and maximum, so that the page's size does not depend on the length of the run.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golf.report.format import finite

MAX_POINTS = 600
MAX_TEXT = 200_000
MAX_FILES = 400
STAGE_ORDER = ("train", "average", "calibrate", "quantise", "pack", "verify", "score")
REPORT_NAME = "report.html"


@dataclass
class Curve:
    """One metric over the run; index i of every list is the same (thinned) point."""

    steps: list[float] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    tokens: list[float | None] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    logged: int = 0
    not_finite: int = 0
    per_point: int = 1
    median: float | None = None
    p99: float | None = None


@dataclass
class RunData:
    """Everything that the page shows."""

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    environment: Any = None
    liveness: Any = None
    rules: Any = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    quantisation: dict[str, dict[str, Any]] = field(default_factory=dict)
    breakdowns: list[dict[str, Any]] = field(default_factory=list)
    files: list[tuple[str, int]] = field(default_factory=list)
    files_left_out: int = 0
    notes: list[str] = field(default_factory=list)


def collect(folder: Path) -> RunData:
    """Read every file of a run folder that the report shows."""
    run = RunData(folder)
    summary = _json(run, "summary.json")
    run.summary = summary if isinstance(summary, dict) else {}
    run.environment = _json(run, "environment.json")
    run.liveness = _json(run, "liveness.json")
    run.rules = _json(run, "rules.json")
    for name in ("config.yaml", "overrides.yaml", "command.txt"):
        text = _text(run, name)
        if text is not None:
            run.texts[name] = text
    rows = _metrics(run)
    run.curves = _curves(rows)
    run.last = {
        key: number for key, value in (rows[-1] if rows else {}).items() if (number := finite(value)) is not None
    }
    run.stages = list(_stages(run))
    run.quantisation = _quantisation(run)
    run.breakdowns = list(_breakdowns(run))
    _files(run)
    return run


def _text(run: RunData, name: str) -> str | None:
    path = run.folder / name
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        run.notes.append(f"{name} could not be read: {error.strerror or error}")
        return None
    if len(text) > MAX_TEXT and not name.endswith((".json", ".jsonl")):
        run.notes.append(f"{name} is shown up to its first {MAX_TEXT:,} characters of {len(text):,}")
        return text[:MAX_TEXT]
    return text


def _json(run: RunData, name: str) -> Any:
    text = _text(run, name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        run.notes.append(f"{name} is not valid JSON: {error}")
        return None


def _metrics(run: RunData) -> list[dict[str, Any]]:
    """Return the logged rows by step; of rows for the same step the later one wins (a resumed run repeats steps)."""
    by_step: dict[float, dict[str, Any]] = {}
    unreadable = 0
    try:
        with open(run.folder / "metrics.jsonl", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                step = finite(row.get("step")) if isinstance(row, dict) else None
                if step is None or not isinstance(row, dict):
                    unreadable += 1
                    continue
                by_step.setdefault(step, {}).update(row)
    except FileNotFoundError:
        return []
    except OSError as error:
        run.notes.append(f"metrics.jsonl could not be read: {error.strerror or error}")
    if unreadable:
        run.notes.append(
            f"{unreadable:,} line{'s' * (unreadable > 1)} of metrics.jsonl could not be read and were left out"
        )
    return [by_step[step] for step in sorted(by_step)]


def _curves(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    names = dict.fromkeys(key for row in rows for key in row if key not in ("step", "seconds", "tokens"))
    return {name: curve for name in names if (curve := _curve(rows, name)).logged}


def _curve(rows: list[dict[str, Any]], name: str) -> Curve:
    curve = Curve()
    points: list[tuple[dict[str, Any], float]] = []
    for row in rows:
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        number = finite(value)
        if number is None:
            curve.not_finite += 1
        else:
            points.append((row, number))
    curve.logged = len(points)
    curve.per_point = max(1, math.ceil(len(points) / MAX_POINTS))
    for start in range(0, len(points), curve.per_point):
        bucket = points[start : start + curve.per_point]
        values = [value for _, value in bucket]
        last = bucket[-1][0]
        curve.steps.append(float(last["step"]))
        curve.seconds.append(finite(last.get("seconds")))
        curve.tokens.append(finite(last.get("tokens")))
        curve.mean.append(math.fsum(values) / len(values))
        curve.low.append(min(values))
        curve.high.append(max(values))
    if points:
        ordered = sorted(value for _, value in points)
        curve.median = ordered[(len(ordered) - 1) // 2]
        curve.p99 = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]
    return curve


def _stages(run: RunData) -> Iterator[dict[str, Any]]:
    """Yield {name, state, seconds, …} per stage manifest, in the order in which stages run."""
    root = run.folder / "stages"
    found = []
    for path in root.rglob("manifest.json") if root.is_dir() else ():
        name = path.parent.relative_to(root).as_posix()
        content = _json(run, path.relative_to(run.folder).as_posix())
        found.append({**(content if isinstance(content, dict) else {}), "name": name})
    known = {stage: index for index, stage in enumerate(STAGE_ORDER)}
    yield from sorted(found, key=lambda stage: (known.get(stage["name"].split("/")[0], len(known)), stage["name"]))


def _quantisation(run: RunData) -> dict[str, dict[str, Any]]:
    """Fit ladder and sensitivities of each export: the table with Δ BPB where there is one, else that of quantising."""
    root, found = run.folder / "artifact", {}
    for place in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        name = f"artifact/{place.name}"
        stages = f"{name}/stages" if (place / "stages").is_dir() else "stages"
        sensitivity = _json(run, f"{name}/sensitivity.json") or _json(run, f"{stages}/quantise/sensitivity.json")
        found[place.name] = {"fit": _json(run, f"{name}/fit.json"), "sensitivity": sensitivity}
    return found


def _breakdowns(run: RunData) -> Iterator[dict[str, Any]]:
    """Yield the tables of every rung of the run's own ladder that has them, in the order of the ladder."""
    places = {path.stem: path for path in sorted(run.folder.glob("stages/*/scores/*.json"))}
    ladder = run.summary.get("ladder")
    rungs = [row.get("stage") for row in ladder if isinstance(row, dict)] if isinstance(ladder, list) else []
    for stage in [*(rung for rung in rungs if rung in places), *(name for name in places if name not in rungs)]:
        content = _json(run, places[stage].relative_to(run.folder).as_posix())
        if isinstance(content, dict):
            yield content


def _files(run: RunData) -> None:
    try:
        paths = sorted(path for path in run.folder.rglob("*") if path.is_file() and not path.is_symlink())
    except OSError as error:
        run.notes.append(f"the files of the run could not be listed: {error.strerror or error}")
        return
    names = [(path.relative_to(run.folder).as_posix(), path) for path in paths]
    names = [(name, path) for name, path in names if name != REPORT_NAME and not name.endswith(".tmp")]
    run.files_left_out = max(0, len(names) - MAX_FILES)
    for name, path in names[:MAX_FILES]:
        try:
            run.files.append((name, path.stat().st_size))
        except OSError:
            continue
