"""Writes the page of a multirun: its jobs in one sortable table, the best of them, and links to their reports."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from golf.errors import UserError
from golf.report.collect import REPORT_NAME
from golf.report.elements import Cell, missing, section, table
from golf.report.format import decimal, duration, escape, finite, plain, whole
from golf.report.html import write_page


def write_sweep_report(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write `report.html` for jobs with job, overrides, bpb, bytes, seconds, status perhaps folder."""
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"There is no multirun folder {folder}; type the path that the multirun printed")
    scored = [row for row in rows if finite(row.get("bpb")) is not None]
    best = min(scored, key=lambda row: row["bpb"], default=None)
    columns = ["Job", "Overrides", "BPB", "Bytes", "Time", "Status", "Report"]
    jobs = table("jobs", "Jobs of the multirun", columns, {2, 3, 4}, [_row(row, folder) for row in rows])
    score = f"<strong>{decimal(best['bpb'])}</strong><span>bits per byte, the best job<br>" if best else ""
    score += f"<em>{escape(_overrides(best))}</em></span>" if best else ""
    body = f"""<header id="top"><p class="kind">golf · multirun</p><h1>{escape(folder.name)}</h1>
<p class="where">{len(scored)} of {len(rows)} jobs scored</p>
<div class="hero"><div class="score">{score}</div></div></header>"""
    body += section("jobs-section", "Jobs", jobs if rows else missing("Jobs"), "Smaller BPB is better.")
    navigation = '<a href="#top">golf</a><a href="#jobs-section">Jobs</a>'
    return write_page(folder / REPORT_NAME, f"{folder.name} · golf", navigation, body, {})


def _overrides(row: dict[str, Any]) -> str:
    overrides = row.get("overrides") or "no overrides"
    return " ".join(map(str, overrides)) if isinstance(overrides, (list, tuple)) else plain(overrides)


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
    """Link to a job's report by a relative path, so that the page still works when the folder is moved."""
    if not job_folder:
        return "–"
    path = Path(str(job_folder))
    page = (path if path.is_absolute() else folder / path) / REPORT_NAME
    if not page.is_file() or not page.resolve().is_relative_to(folder):
        return escape(path.name)
    return f'<a href="./{quote(page.resolve().relative_to(folder).as_posix())}">{escape(path.name)}</a>'
