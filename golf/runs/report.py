"""`golf runs report <run | sweep | all>`: one HTML file that needs no network, and its plots as SVG and PNG.

A run's page is told of the seeds beside it, a sweep's page has the entries, their intervals and verdicts, and `all` is
every run below runs/. Invariant: pages and pictures are made from the run folders alone, and nothing else is written
than report.html and images/ in the folder asked for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.errors import GolfError, UserError
from golf.report.collect import collect
from golf.report.html import write_report
from golf.report.library_page import write_library_report
from golf.report.pictures import run_pictures
from golf.report.screenshot import find_chromium, picture_of
from golf.report.study import point_of, texts_of
from golf.report.study_pictures import intervals_picture, pareto_picture
from golf.report.sweep import Study, job_points, repeating, write_sweep_report
from golf.runs.compare import SWEEP_POLICY, compare_entries, render
from golf.runs.entries import Entry, entry_of_rows, scored_entries
from golf.runs.leaderboard import place
from golf.runs.library import RunRow, read_row, rows_below
from golf.stats.policies import POLICIES, policy_of

RUNS = Path("runs")
FORMS = "a run folder like runs/<name>/<time>, a sweep's folder, or all"


def add_parser(commands: Any) -> None:
    made = commands.add_parser("report", help="an HTML page of a run, a sweep, or all runs", description=__doc__)
    made.add_argument("target", metavar="RUN", help=FORMS)
    made.add_argument("--images", action="store_true", help="plots as SVG and PNG too, into <folder>/images")
    made.add_argument("--policy", default=SWEEP_POLICY, help=f"of a sweep's verdicts: {' | '.join(POLICIES)}")
    made.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    policy_of(arguments.policy)
    folder = _folder(arguments.target)
    if (folder / "config.yaml").is_file():
        entry = siblings(folder)
        page = write_report(folder, entry)
        pictures = run_pictures(collect(folder))
        entries = [entry] if entry is not None and len(entry.scores) > 1 else []
        pictures |= {"seeds": _intervals(entries, folder)} if entries else {}
    elif is_sweep(folder):
        study = study_of(folder, arguments.policy)
        page = write_sweep_report(folder, jobs := job_rows(folder), study)
        pictures = _study_pictures(study.entries, folder)
        if not study.entries:
            pictures["pareto"] = pareto_picture(job_points(jobs), f"Bytes and bits per byte, {folder.resolve().name}")
    else:
        page, entries = write_all(folder)
        pictures = _study_pictures(entries, folder)
    print(f"report  {folder / page.name}")
    if arguments.images:
        print("\n".join(write_pictures(folder / "images", pictures)))
    return 0


def _folder(text: str) -> Path:
    folder = RUNS if text == "all" else Path(text)
    folder = folder if folder.is_dir() or text == "all" else RUNS / text
    if not folder.is_dir():
        where = "there is no runs/ here yet; train one: make demo" if text == "all" else f"no such folder; type {FORMS}"
        raise UserError(f"golf runs report {text}: {where}")
    if not (folder / "config.yaml").is_file() and not rows_below(folder) and not is_sweep(folder):
        raise UserError(f"golf runs report {text}: no runs in {folder}; type {FORMS}")
    return folder


def is_sweep(folder: Path) -> bool:
    """Jobs lie directly in a sweep's folder."""
    return (folder / "multirun.yaml").is_file() or any(folder.glob("*/job.json"))


def siblings(folder: Path) -> Entry | None:
    """The entry of a run: it and the runs beside it with the same configuration and code; None without a score."""
    try:
        own = read_row(folder)
        rows = [row for row in readable(folder.resolve().parent, []) if row.config_hash == own.config_hash]
        stage = (own.rung() or {}).get("stage")
        rows = [row for row in rows if row.code_hash == own.code_hash and (row.rung() or {}).get("stage") == stage]
        return entry_of_rows(rows, own.experiment or str(own.config.get("name"))) if rows and stage else None
    except GolfError:
        return None


def study_of(folder: Path, policy_name: str = SWEEP_POLICY) -> Study:
    """Entries, comparisons and commands of the runs below a folder."""
    notes: list[str] = []
    entries, policy = scored_entries(folder, readable(folder, notes)), policy_of(policy_name)
    found = Study(entries, [_command(entry) for entry in entries], policy=policy.name, notes=notes)
    if len(entries) > 1:
        try:
            found.comparisons = compare_entries(entries, policy)
            found.text = "\n".join(render(entries, found.comparisons, policy))
        except UserError as error:
            found.text = f"No comparison: {error}"
    return found


def readable(folder: Path, notes: list[str]) -> list[RunRow]:
    """Runs below a folder; one whose files are damaged is passed over with a note: the others have their page."""
    found = []
    for row in rows_below(folder, notes):
        try:
            row.record()
            found.append(row)
        except Exception as error:  # of a tar, a decompressor, or a missing key
            notes.append(f"{row.folder} was passed over: its files are damaged ({type(error).__name__}: {error})")
    return found


def _command(entry: Entry) -> str:
    return repeating(entry.rows[0].overrides, [score.seed for score in entry.scores])


def job_rows(folder: Path) -> list[dict[str, Any]]:
    """The jobs of a sweep from their records, with the command of each."""
    records = []
    for path in sorted(folder.glob("*/job.json")):
        try:
            records.append((path.parent, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            records.append((path.parent, {"job": path.parent.name, "state": f"job.json cannot be read: {error}"}))
    records.sort(key=lambda item: (not isinstance(item[1].get("job"), int), item[1].get("job")))
    given = [record.get("overrides") or [] for _, record in records]
    common = set(given[0]).intersection(*given) if given else set()
    return [
        {
            "job": record.get("job"),
            "overrides": [text for text in overrides if text not in common],
            "bpb": record.get("objective"),
            "bytes": record.get("bytes"),
            "seconds": record.get("seconds"),
            "status": f"failed: {record['error']}" if record.get("error") else record.get("state"),
            "folder": str(place.resolve()),
            "command": repeating(overrides, script=record.get("script") or "train") if overrides else "",
        }
        for (place, record), overrides in zip(records, given)
    ]


def write_all(folder: Path) -> tuple[Path, Sequence[Entry]]:
    """The page of every run below a folder."""
    notes: list[str] = []
    rows = readable(folder, notes)
    entries = scored_entries(folder, rows)
    policy = policy_of(next(iter(POLICIES)))
    places = [{**place(entry, policy), "folders": [str(row.folder) for row in entry.rows]} for entry in entries]
    study = Study(entries, [_command(entry) for entry in entries], notes=notes)
    return write_library_report(folder, rows, study, places), entries


def _intervals(entries: Sequence[Entry], folder: Path) -> str | None:
    return intervals_picture([point_of(entry) for entry in entries], f"Mean BPB by entry, {folder.resolve().name}")


def _study_pictures(entries: Sequence[Entry], folder: Path) -> dict[str, str | None]:
    """One chart of each kind for every validation text; the text with most entries has the plain name."""
    found: dict[str, str | None] = {} if entries else {"pareto": None, "seeds": None}
    for index, (text, members) in enumerate(texts_of(entries)):
        own, end = [entries[i] for i in members], f"_{index + 1}" if index else ""
        title = f"Bytes and bits per byte, {folder.resolve().name}, {text}"
        found[f"pareto{end}"] = pareto_picture([point_of(entry) for entry in own], title)
        found[f"seeds{end}"] = _intervals(own, folder)
    return found


def write_pictures(folder: Path, pictures: dict[str, str | None]) -> list[str]:
    """Write what there is as SVG, and as PNG where a Chromium is; the lines say what was written and what was not."""
    lines = []
    try:
        folder.mkdir(exist_ok=True)
        for name, content in pictures.items():
            if content is None:
                lines.append(f"image   {name}: its data is not there yet")
                continue
            path = folder / f"{name}.svg"
            path.write_text(content, encoding="utf-8")
            lines.append(f"image   {path}")
            if find_chromium() is not None:
                lines.append(f"image   {folder / picture_of(path, content).name}")
    except OSError as error:
        raise UserError(
            f"{folder} could not be written ({error.strerror or error}): make room, or it writable"
        ) from error
    if find_chromium() is None:
        lines.append("no PNG: no Chromium found; install one or set CHROMIUM=<its path>, the SVG files are complete")
    return lines
