"""summary.json: what a run came to, derived from the manifests of its stages; never written by hand, never partial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from golf.files import write_atomically
from golf.pipeline.run_folder import RunFolder
from golf.pipeline.stage import stage_result

SUMMARY_SCHEMA = 1
EXPORT_FIELDS = ("artifact_bytes", "code_bytes", "total_bytes", "limit_bytes", "bytes_by_class")


def write_summary(run: RunFolder) -> dict[str, Any]:
    """Collect the results of all finished stages and exports into summary.json, and return it."""
    train = stage_result(run.path, "train") or {}
    average = stage_result(run.path, "average") or {}
    below = [{**entry, "source_sha256": entry.get("source_sha256")} for entry in average.get("ladder", [])]
    exports = {name: _export(run, name, below) for name in _export_names(run)}
    own = exports.get(run.config["export"], {})
    summary = {
        "schema": SUMMARY_SCHEMA,
        "name": run.config["name"],
        "seed": run.config["seed"],
        "ladder": own.get("ladder", below),
        **{name: own.get(name) for name in EXPORT_FIELDS},
        "parameters": train.get("parameters"),
        "steps": train.get("steps"),
        "train_seconds": train.get("train_seconds"),
        "train_tokens": train.get("train_tokens"),
        "target": train.get("target"),
        "unique_tokens": train.get("unique_tokens"),
        "passes": train.get("passes"),
        "tokens_per_second": train.get("tokens_per_second"),
        "step_ms_p50": train.get("step_ms_p50"),
        "step_ms_p99": train.get("step_ms_p99"),
        "flops": train.get("flops"),
        "mfu": train.get("mfu"),
        "joules": train.get("joules"),
        "data_wait_seconds": train.get("data_wait_seconds"),
        "peak_memory_bytes": train.get("peak_memory_bytes"),
        "hardware": train.get("hardware"),
        "devices": train.get("devices"),
        "rules": _rules(run),
        "exports": exports,
        "fits": _fits(run),
    }
    summary["limit_bytes"] = summary["limit_bytes"] or run.config["budget"]["limit_bytes"]
    write_atomically(run.path / "summary.json", json.dumps(summary, indent=1))
    return summary


def read_summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


class Rung(float):
    """BPB of a ladder rung, with what a sweep's table says beside it: the rung's name, the export's bytes and place."""

    stage: str
    total_bytes: int | None
    place: str | None = None

    def __new__(cls, entry: dict[str, Any], total_bytes: int | None) -> Rung:
        made = super().__new__(cls, entry["bpb"])
        made.stage, made.total_bytes = entry["stage"], total_bytes
        return made

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)  # a launcher's worker process hands back the number


def objective(summary: dict[str, Any], rung: str, export: str | None = None) -> Rung | None:
    """BPB of a ladder rung, of the last one if that rung was not scored, None if nothing was."""
    found = summary["exports"].get(export, summary) if export else summary
    ladder = [entry for entry in found["ladder"] if entry["bpb"] is not None]
    chosen = [entry for entry in ladder if entry["stage"] == rung][-1:] or ladder[-1:]
    return Rung(chosen[0], found.get("total_bytes")) if chosen else None


def _rules(run: RunFolder) -> dict[str, Any] | None:
    """What the last audit came to; rules.json has it all."""
    path = run.path / "rules.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: found[name] for name in ("profile", "outcomes", "failed", "tested_by_behaviour", "tested_by_record")}


def _export_names(run: RunFolder) -> list[str]:
    """The run's own export first, then the others by name; only those that have packed something."""
    own = run.config["export"]
    others = sorted(p.name for p in (run.path / "artifact").glob("*") if p.is_dir() and p.name != own)
    return [name for name in (own, *others) if stage_result(run.export_root(name), "pack")]


def _export(run: RunFolder, name: str, below: list[dict[str, Any]]) -> dict[str, Any]:
    root = run.export_root(name)
    packed = stage_result(root, "pack") or {}
    scored = (stage_result(root, "score") or {}).get("ladder", [])
    extra = [evaluation for evaluation in _evaluations(run, name) if evaluation not in scored]
    fields = {field: packed.get(field) for field in EXPORT_FIELDS}
    quantised = {"fallbacks": (stage_result(root, "quantise") or {}).get("fallbacks")}
    calibrated = stage_result(root, "calibrate") or {}
    if calibrated.get("collected"):
        quantised["calibration"] = calibrated
    return {"ladder": below + scored, "evaluations": extra, "sha256": packed.get("sha256"), **quantised, **fields}


def _fits(run: RunFolder) -> dict[str, Any]:
    """Tables of the fit ladder by export, those that did not come to fit included."""
    found: dict[str, Any] = {}
    for path in sorted((run.path / "artifact").glob("*/fit.json")):
        table = json.loads(path.read_text(encoding="utf-8"))
        found[path.parent.name] = {key: table.get(key) for key in ("target_bytes", "fits", "scored_on", "rungs")}
    return found


def _evaluations(run: RunFolder, name: str) -> list[dict[str, Any]]:
    """What evaluate.py scored later, beside the export's own ladder."""
    found: list[dict[str, Any]] = []
    for path in sorted((run.path / "artifact" / name / "evaluations").glob("*/scores.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["ladder"]
    return found
