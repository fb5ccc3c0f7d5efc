"""Writes the page of a multirun: pareto chart, entries with intervals, verdicts, commands, and all jobs in a table.

The jobs come from their records, the rest from `Study`, which golf.runs.report makes of the run folders; without one
the page has the jobs alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golf.errors import UserError
from golf.report import study
from golf.report.collect import REPORT_NAME
from golf.report.elements import Cell, folded, missing, section, table
from golf.report.format import decimal, duration, escape, finite, plain, whole
from golf.report.html import write_page
from golf.report.study_pictures import Point, pareto_picture


@dataclass
class Study:
    """What the runs of a folder say together. commands: of the entries, in their order. text: the verdicts in words."""

    entries: Sequence[Any] = ()
    commands: Sequence[str] = ()
    comparisons: Sequence[Any] = ()
    text: str = ""
    policy: str = ""
    notes: list[str] = field(default_factory=list)


def write_sweep_report(folder: Path, rows: list[dict[str, Any]], found: Study | None = None) -> Path:
    """Write `report.html` for jobs with job, overrides, bpb, bytes, seconds, status, perhaps folder and command."""
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"There is no multirun folder {folder}; type the path that the multirun printed")
    scored = [row for row in rows if finite(row.get("bpb")) is not None]
    best = min(scored, key=lambda row: row["bpb"], default=None)
    columns = ["Job", "Overrides", "BPB", "Bytes", "Time", "Status", "Report"]
    jobs = table("jobs", "Jobs of the multirun", columns, {2, 3, 4}, [_row(row, folder) for row in rows])
    jobs += _commands(rows)
    score = f"<strong>{decimal(best['bpb'])}</strong><span>bits per byte, the best job<br>" if best else ""
    score += f"<em>{escape(_overrides(best))}</em></span>" if best else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in (found.notes if found else [])[:50])
    body = f"""<header id="top"><p class="kind">golf · multirun</p><h1>{escape(folder.name)}</h1>
<p class="where">{len(scored)} of {len(rows)} jobs scored</p>
<div class="hero"><div class="score">{score}</div></div>{f'<ul class="notes">{notes}</ul>' if notes else ""}</header>"""
    names = {"jobs-section": "Jobs"}
    if found is not None and not found.entries and any(point.bytes for point in job_points(rows)):
        picture = pareto_picture(job_points(rows), "Bytes and bits per byte of the jobs", standalone=False)
        body += section("pareto", "Bytes and BPB", f'<figure class="chart picture">{picture}</figure>')
        names = {"pareto": "Pareto", **names}
    elif found is not None:
        body += study.entries(found.entries, found.commands, folder)
        body += study.verdicts(found.comparisons, found.text, found.policy)
        names = {
            **{"pareto": "Pareto", "entries-section": "Entries", "repeat": "Best", "verdicts": "Verdicts"},
            **names,
        }
    body += section("jobs-section", "Jobs", jobs if rows else missing("Jobs"), "Smaller BPB is better.")
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in {"top": "golf", **names}.items())
    return write_page(folder / REPORT_NAME, f"{folder.name} · golf", links, body, {})


def job_points(rows: list[dict[str, Any]]) -> list[Point]:
    """The jobs that were scored, for sweeps whose jobs are no runs (of export.py and evaluate.py)."""
    scored = [(row, bpb) for row in rows if (bpb := finite(row.get("bpb"))) is not None]
    sizes = [finite(row.get("bytes")) for row, _ in scored]
    return [Point(_overrides(row), bpb, int(size) if size else None) for (row, bpb), size in zip(scored, sizes)]


def repeating(overrides: Sequence[str], seeds: Sequence[str | int] = (), script: str = "train") -> str:
    """The command of a run with these overrides, or of an entry with all its seeds."""
    if not seeds:
        return shlex.join(["python", f"{script}.py", *overrides])
    kept = [text for text in overrides if not text.startswith("seed=")]
    several = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["python", f"{script}.py", *several, *kept, f"seed={','.join(map(str, seeds))}"])


def _overrides(row: dict[str, Any]) -> str:
    overrides = row.get("overrides") or "no overrides"
    return " ".join(map(str, overrides)) if isinstance(overrides, (list, tuple)) else plain(overrides)


def _commands(rows: list[dict[str, Any]]) -> str:
    """The command of each job, folded."""
    given = [row for row in rows if row.get("command")]
    if not given:
        return ""
    shown = [Cell("", None, f'<code class="repeat">{escape(row["command"])}</code>') for row in given]
    body = [[Cell(plain(row["job"]), finite(row["job"])), cell] for row, cell in zip(given, shown)]
    return folded("The command of each job", table("commands", "Commands of the jobs", ["Job", "Command"], set(), body))


def _row(row: dict[str, Any], folder: Path) -> list[Cell]:
    job = finite(row.get("job"))
    return [
        Cell(plain(row.get("job")), job if job is not None else plain(row.get("job"))),
        Cell(_overrides(row), _overrides(row)),
        Cell("", finite(row.get("bpb")), f"<b>{decimal(row.get('bpb'))}</b>"),
        Cell(whole(row.get("bytes")), finite(row.get("bytes"))),
        Cell(duration(row.get("seconds")), finite(row.get("seconds"))),
        Cell(plain(row.get("status")), plain(row.get("status"))),
        Cell("", None, _link(row.get("folder"), folder)),
    ]


def _link(job_folder: Any, folder: Path) -> str:
    """Link to a job's report inside the sweep's folder."""
    if not job_folder:
        return "–"
    path = Path(str(job_folder))
    path = path if path.is_absolute() else folder / path
    return study.link(path, folder) if path.resolve().is_relative_to(folder) else escape(path.name)
