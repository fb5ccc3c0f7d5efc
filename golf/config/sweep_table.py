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

from golf.errors import GolfError

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
            for line in _verdicts(folder):
                print(line, flush=True)
            print(f"report  {write_page(records, folder)}", flush=True)


def _verdicts(folder: Path) -> list[str]:
    """What several seeds or a parent allow to say about the entries of the sweep; nothing for other sweeps."""
    from golf.runs.compare import sweep_verdicts

    try:
        return sweep_verdicts(folder)
    except GolfError as error:
        return [f"no comparison: {error}"]


def record_job(config: Any, outcome: Any, seconds: float, error: str = "", exit_code: int = 0) -> None:
    """Writes the record of the current job of a sweep."""
    job = HydraConfig.get()
    record = {
        "job": job.job.num,
        "script": job.job.config_name,  # train, export or evaluate
        "overrides": list(job.overrides.task),
        "state": "failed" if exit_code else "done",
        "objective_name": getattr(outcome, "stage", None) or config.get("objective"),  # the rung that was scored
        "objective": float(outcome) if isinstance(outcome, int | float) else None,
        "bytes": getattr(outcome, "total_bytes", None),
        "place": getattr(outcome, "place", None),
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
