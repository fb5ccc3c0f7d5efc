"""The table at the end of a multirun: one line per job with what was varied, its objective, state and folder.

A Hydra callback. Each job writes `job.json` into its folder (in whatever process it ran), the parent reads them, so the
table is the same for every launcher. Invariant: a job that failed appears too, with its error.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from golf.config.resolvers import rank

RECORD = "job.json"


class SweepTable(Callback):
    """Records every job of a sweep and prints the table when the last one has ended."""

    def __init__(self) -> None:
        self.started = 0.0

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()

    def on_job_end(self, config: Any, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN or rank() != 0:
            return
        completed = job_return.status == JobStatus.COMPLETED
        outcome = job_return._return_value  # the property raises for a failed job
        record = {
            "job": config.hydra.job.num,
            "overrides": list(config.hydra.overrides.task),
            "state": "done" if completed else "failed",
            "objective_name": config.get("objective"),
            "objective": outcome if completed and isinstance(outcome, int | float) else None,
            "error": None if completed else _first_line(outcome),
            "seconds": round(time.monotonic() - self.started, 3),
        }
        folder = Path(config.hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        records = read_records(folder)
        if records:
            print(render(records, folder), file=sys.stdout, flush=True)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records of the jobs in a sweep folder, in the order of their numbers."""
    records = []
    for path in folder.rglob(RECORD):
        records.append(json.loads(path.read_text(encoding="utf-8")) | {"folder": str(path.parent)})
    return sorted(records, key=lambda record: (record["job"] is None, record["job"]))


def render(records: list[dict[str, Any]], folder: Path) -> str:
    """The table as text: columns for the overrides that differ, best objective marked with `*`."""
    common = set(records[0]["overrides"]).intersection(*(record["overrides"] for record in records))
    varied = [[text for text in record["overrides"] if text not in common] for record in records]
    known = [record["objective"] for record in records if record["objective"] is not None]
    name = next((record["objective_name"] for record in records if record["objective_name"]), "objective")
    rows = [["job", "overrides", name, "state", "seconds", "folder"]]
    for record, texts in zip(records, varied):
        value = record["objective"]
        shown = "-" if value is None else f"{value:.4f}" + ("*" if value == min(known) else "")
        state = record["state"] if record["state"] == "done" else f"failed: {record['error']}"
        rows.append([str(record["job"]), " ".join(texts) or "-", shown, state, f"{record['seconds']:.1f}", record["folder"]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{len(records)} jobs in {folder}" + (" (* best)" if known else ""), *lines])
