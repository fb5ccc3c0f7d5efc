"""job.json: what one job of a multirun came to, written by the job, or by its launcher if the job's process died.

Invariant: a job counts as finished only with the overrides that are recorded; its objective is then finite or None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.files import write_atomically

RECORD = "job.json"
SWEEP = "sweep.json"  # the command of a multirun, beside its jobs
WORST = 1e9  # objective of a failed job: finite, because a sweeper that meets NaN or inf may stop the whole sweep


def usable(outcome: Any) -> bool:
    """A number that a sweeper can compare."""
    return isinstance(outcome, int | float) and math.isfinite(outcome)


def write_record(
    folder: Path,
    job: int | None,
    script: str,
    overrides: Sequence[str],
    outcome: Any = None,
    seconds: float = 0.0,
    error: str = "",
    exit_code: int = 0,
    objective: str | None = None,
) -> None:
    """The record of a job in its folder; `objective` names the rung where the outcome does not."""
    found = float(outcome) if isinstance(outcome, int | float) else None
    if found is not None and not math.isfinite(found):
        found, error, exit_code = None, error or f"the objective is {found}", exit_code or 1
    record = {
        "job": job,
        "script": script,  # train, export or evaluate
        "overrides": list(overrides),
        "state": "failed" if exit_code else "done",
        "objective_name": getattr(outcome, "stage", None) or objective,  # the rung that was scored
        "objective": found,
        "bytes": getattr(outcome, "total_bytes", None),
        "place": getattr(outcome, "place", None),
        "error": error,
        "exit_code": exit_code,
        "seconds": round(seconds, 3),
    }
    write_atomically(folder / RECORD, json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of the job in a folder; None without a readable one."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def finished(folder: Path, overrides: Sequence[str]) -> dict[str, Any] | None:
    """The record of a job that was finished with these overrides."""
    found = read_record(folder)
    return found if found and found["state"] == "done" and found["overrides"] == list(overrides) else None
