"""Writes the page of all runs below a folder: a sortable row each, pareto chart, leaderboard places, commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.report import study
from golf.report.collect import REPORT_NAME
from golf.report.elements import Cell, missing, section, table
from golf.report.format import decimal, duration, escape, finite, plain, signed, whole
from golf.report.html import PageTooLarge, write_page
from golf.report.sweep import Study

MOST_RUNS = 2000  # newest first, so that the page stays below its limit of bytes
SECTIONS = {
    **{"top": "golf", "runs": "Runs", "pareto": "Pareto", "entries-section": "Entries", "repeat": "Best"},
    "leaderboard": "Leaderboard",
}


def write_library_report(folder: Path, rows: Sequence[Any], found: Study, places: Sequence[dict[str, Any]]) -> Path:
    """Write `report.html` of every run (golf.runs.library.RunRow) below a folder.

    places: what golf.runs.leaderboard says of the entries.
    """
    folder = Path(folder).resolve()
    newest = sorted(rows, key=lambda row: str(row.environment.get("time") or ""), reverse=True)
    places_of = {row_folder: place for place in places for row_folder in place["folders"]}
    rest = study.entries(found.entries, found.commands, folder) + _leaderboard(places)
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in SECTIONS.items())
    most = MOST_RUNS
    while True:
        about = _about(len(rows), min(most, len(rows)))
        table_of_runs = section("runs", "Runs", _runs(newest[:most], places_of, folder), about)
        body = _header(folder, rows, found) + table_of_runs + rest
        try:
            return write_page(folder / REPORT_NAME, f"{folder.name} · runs · golf", links, body, {})
        except PageTooLarge:
            if most < 10:
                raise
            most //= 2


def _about(every: int, shown: int) -> str:
    left = f" The newest {shown:,} of {every:,} are shown." if shown < every else ""
    return f"Newest first; a run's page is where its folder's name is a link.{left}"


def _header(folder: Path, rows: Sequence[Any], found: Study) -> str:
    scored = sum(row.rung() is not None for row in rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes[:50])
    return f"""<header id="top"><p class="kind">golf · all runs</p><h1>{escape(folder.name)}</h1>
<p class="where">{len(rows):,} run{"s" * (len(rows) != 1)}, {scored:,} scored, {len(found.entries):,} entries</p>
{f'<ul class="notes">{notes}</ul>' if notes else ""}</header>"""


def _runs(rows: Sequence[Any], places: dict[str, dict[str, Any]], folder: Path) -> str:
    if not rows:
        return missing("Runs")
    columns = ["Run", "BPB", "Bytes", "Place", "Seed", "Rung", "Rules", "Steps", "ms/step", "Time"]
    columns += ["Parameters", "Started", "Hardware", "Entry", "Code"]
    body = [_row(row, places.get(str(row.folder)), folder) for row in rows]
    search = (
        '<p class="filter"><label>Filter <input type="search" data-filter="run-list" autocomplete="off" '
        'placeholder="words that a row must have"></label> <span aria-live="polite"></span></p>'
    )
    return search + table("run-list", "Runs", columns, {1, 2, 3, 4, 7, 8, 9, 10}, body)


def _row(row: Any, place: dict[str, Any] | None, folder: Path) -> list[Cell]:
    record = row.record()
    name, failed = str(record["experiment"] or record["name"]), record["rules_failed"]
    verdict = "–" if failed is None else f"{len(failed)} failed" if failed else "none failed"
    when = str(record["time"] or "")[:16].replace("T", " ")
    stood = place["place"] if place else None
    hardware = plain(record["hardware"])
    numbers = [
        Cell(whole(record["steps"]), finite(record["steps"])),
        Cell(decimal(record["step_ms"], 1), finite(record["step_ms"])),
        Cell(duration(record["seconds"]), finite(record["seconds"])),
        Cell(whole(record["parameters"]), finite(record["parameters"])),
    ]
    stamp = row.folder.resolve()
    shown = stamp.relative_to(folder).as_posix() if stamp.is_relative_to(folder) else stamp.name
    return [
        Cell("", name, f'{escape(name)}<br><small class="soft">{study.link(row.folder, folder, shown)}</small>'),
        Cell("", finite(record["bpb"]), f"<b>{decimal(record['bpb'])}</b>"),
        Cell(whole(record["total_bytes"]), finite(record["total_bytes"])),
        Cell("–" if stood is None else f"{stood} of {place['of'] if place else 0}", stood),
        Cell(plain(record["seed"]), finite(record["seed"])),
        Cell(plain(record["stage"]), record["stage"]),
        Cell(verdict, None if failed is None else len(failed)),
        *numbers,
        Cell(when or "–", when or None),
        Cell(hardware if len(hardware) <= 40 else f"{hardware[:39]}…", hardware[:40]),
        Cell(record["config"][:8], record["config"][:8]),
        Cell(record["code"][:8], record["code"][:8]),
    ]


def _leaderboard(places: Sequence[dict[str, Any]]) -> str:
    """Entries scored on the official validation split, and what each must still gain."""
    about = "Only entries scored on the whole official validation split have a place among the published ones."
    official = sorted((place for place in places if place["place"] is not None), key=lambda place: place["bpb"])
    if not official:
        words = "No entry here was scored on the whole official validation split (data=fineweb)."
        return section("leaderboard", "Leaderboard", f'<p class="empty">{words}</p>', about)
    body = [
        [
            Cell(place["entry"], place["entry"]),
            Cell(str(place["place"]), place["place"]),
            Cell(str(place["of"]), place["of"]),
            Cell(str(place["seeds"]), place["seeds"]),
            Cell(decimal(place["bpb"], 5), place["bpb"]),
            Cell(signed(place["still_to_gain_bpb"]), finite(place["still_to_gain_bpb"])),
            Cell(decimal(place["p"], 4), finite(place["p"])),
        ]
        for place in official
    ]
    columns = ["Entry", "Place", "Of", "Seeds", "Mean BPB", "Still to gain", "p"]
    best = f"The best published entry is {official[0]['best']} with {official[0]['best_bpb']:.4f} BPB."
    markup = table("places", "Places", columns, {1, 2, 3, 4, 5, 6}, body)
    return section("leaderboard", "Leaderboard", f'{markup}<p class="note">{escape(best)}</p>', about)
