"""The table at the end of a multirun: one line per job with what was varied, its objective, state and folder.

Each job writes `job.json` into its folder (in whatever process it runs), the parent reads them in a Hydra callback, so
the table is the same for every launcher and sweeper; after it come the errors, the page, and the commands that repeat
the best job and go on with the rest. Invariant: a job that failed appears too, with its error, and the sweep's exit
code is that of its worst job.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

from golf.config.engines.records import RECORD, SWEEP, read_record, write_record
from golf.errors import GolfError
from golf.files import write_atomically


class SweepTable(Callback):
    """Prints the table when the last job has ended; `exit_code` is then that of the sweep."""

    exit_code: ClassVar[int] = 0
    folder: ClassVar[Path | None] = None
    again: ClassVar[str] = ""  # the command that goes on with the sweep

    @classmethod
    def begun(cls) -> bool:
        """Whether a job of the sweep has left something; a sweep that was refused leaves nothing."""
        if cls.folder is None or any(cls.folder.glob("[0-9]*/*")):
            return cls.folder is not None
        (cls.folder / SWEEP).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: a study
            cls.folder.rmdir()
        return False

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        folder, script = Path(config.hydra.sweep.dir), str(config.hydra.job.config_name)
        arguments = [text for text in sys.argv[1:] if not text.startswith("hydra.sweep.dir=")]
        SweepTable.folder, SweepTable.again = folder, resuming(script, arguments, folder)
        if not (folder / SWEEP).is_file():  # what a sweep is does not change when it goes on
            write_atomically(folder / SWEEP, json.dumps({"script": script, "arguments": arguments}, indent=1) + "\n")

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        records = read_records(folder)
        SweepTable.exit_code = max((record["exit_code"] for record in records), default=0)
        if records:
            print(render(records, folder), flush=True)
            for line in [*_verdicts(folder), "", *endings(records, SweepTable.again)]:
                print(line, flush=True)
            print(f"report  {write_page(records, folder)}", flush=True)


def resuming(script: str, arguments: list[str], folder: Path) -> str:
    """The command that goes on with a sweep: its folder is enough for train.py."""
    if script == "train":
        return shlex.join(["python", "train.py", f"run={folder}"])
    return shlex.join(["python", f"{script}.py", *arguments, f"hydra.sweep.dir={folder}"])


def endings(records: list[dict[str, Any]], again: str) -> list[str]:
    """Errors of the jobs that failed and what runs only those again; the command of the best job."""
    from golf.report.sweep import repeating

    failed = [record for record in records if record["state"] != "done"]
    lines = [f"failed  job {record['job']}: {record['error']}" for record in failed]
    if failed and again:
        lines.append(f"again   {again}")
    scored = [record for record in records if record["state"] == "done" and record["objective"] is not None]
    if scored and len({record["objective_name"] for record in scored}) == 1:
        best = min(scored, key=lambda record: record["objective"])
        lines.append(f"best    {repeating(best['overrides'], script=best.get('script') or 'train')}")
    return lines


def _verdicts(folder: Path) -> list[str]:
    """What several seeds or a parent allow to say about the entries of the sweep; nothing for other sweeps."""
    from golf.runs.compare import sweep_verdicts

    try:
        return sweep_verdicts(folder)
    except GolfError as error:
        return [f"no comparison: {error}"]


def record_job(config: Any, outcome: Any, seconds: float, error: str = "", exit_code: int = 0) -> None:
    """Writes the record of the current job of a sweep."""
    job, rung = HydraConfig.get(), config.get("objective")
    texts, folder = list(job.overrides.task), Path(job.runtime.output_dir)
    write_record(folder, job.job.num, str(job.job.config_name), texts, outcome, seconds, error, exit_code, rung)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records of the jobs in a sweep folder, in the order of their numbers."""
    found = [(path.parent, read_record(path.parent)) for path in folder.rglob(RECORD)]
    records = [record | {"folder": str(place)} for place, record in found if record is not None]
    return sorted(records, key=lambda record: (record["job"] is None, record["job"]))


def render(records: list[dict[str, Any]], folder: Path) -> str:
    """The table as text: columns for the overrides that differ, best objective marked with `*`."""
    varied = varied_overrides(records)
    known = [record["objective"] for record in records if record["objective"] is not None]
    names = list(dict.fromkeys(record["objective_name"] for record in records if record["objective"] is not None))
    name = (names[0] if len(names) == 1 else None) or "objective"
    with_bytes = any(record.get("bytes") for record in records)
    rows = [["job", "overrides", name, *(["bytes"] if with_bytes else []), "state", "seconds", "folder"]]
    for record, texts in zip(records, varied):
        value = record["objective"]
        shown = "-" if value is None else f"{value:.4f}" + ("*" if value == min(known) and len(names) == 1 else "")
        if value is not None and len(names) > 1:
            shown += f" {record['objective_name']}"
        size = [f"{record['bytes']:,}" if record.get("bytes") else "-"] if with_bytes else []
        seconds = f"{record['seconds']:.1f}"
        place = record.get("place") or record["folder"]
        rows.append([str(record["job"]), " ".join(texts) or "-", shown, *size, _state(record), seconds, place])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{len(records)} jobs in {folder}" + (" (* best)" if known and len(names) == 1 else ""), *lines])


def varied_overrides(records: list[dict[str, Any]]) -> list[list[str]]:
    """Per job, the overrides that not all jobs have."""
    common = set(records[0]["overrides"]).intersection(*(record["overrides"] for record in records))
    return [[text for text in record["overrides"] if text not in common] for record in records]


def write_page(records: list[dict[str, Any]], folder: Path) -> Path:
    """report.html of the sweep: the same table, sortable, and what its entries say together."""
    from golf.report.sweep import repeating, write_sweep_report
    from golf.runs.report import study_of

    rows = [
        {
            "job": record["job"],
            "overrides": texts,
            "bpb": record["objective"],
            "bytes": record.get("bytes"),
            "seconds": record["seconds"],
            "status": _state(record),
            "folder": str(Path(record["folder"]).resolve()),
            "command": repeating(record["overrides"], script=record.get("script") or "train"),
        }
        for record, texts in zip(records, varied_overrides(records))
    ]
    write_sweep_report(folder, rows, study_of(folder))
    return folder / "report.html"


def _state(record: dict[str, Any]) -> str:
    return record["state"] if record["state"] == "done" else f"failed: {record['error']}"
