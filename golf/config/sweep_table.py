"""The table at the end of a multirun: one line per job with what was varied, its objective, state and folder.

Each job writes `job.json` into its folder (in whatever process it runs), the parent reads them in a Hydra callback, so
the table is the same for every launcher. Invariant: a job that failed appears too, with its error, and the sweep's exit
code is that of its worst job.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

RECORD = "job.json"
WORST = 1e9  # objective of a failed job: finite, because a sweeper that meets NaN or inf may stop the whole sweep


class SweepTable(Callback):
    """Prints the table when the last job has ended; `exit_code` is then that of the sweep."""

    exit_code: ClassVar[int] = 0

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        records = read_records(folder)
        SweepTable.exit_code = max((record["exit_code"] for record in records), default=0)
        if records:
            print(render(records, folder), flush=True)


def record_job(config: Any, outcome: Any, seconds: float, error: str = "", exit_code: int = 0) -> None:
    """Writes the record of the current job of a sweep."""
    job = HydraConfig.get()
    record = {
        "job": job.job.num,
        "overrides": list(job.overrides.task),
        "state": "failed" if exit_code else "done",
        "objective_name": config.get("objective"),
        "objective": outcome if isinstance(outcome, int | float) else None,
        "error": error,
        "exit_code": exit_code,
        "seconds": round(seconds, 3),
    }
    folder = Path(job.runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


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
        rows.append(
            [str(record["job"]), " ".join(texts) or "-", shown, state, f"{record['seconds']:.1f}", record["folder"]]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{len(records)} jobs in {folder}" + (" (* best)" if known else ""), *lines])
