"""What Weights & Biases keeps of a finished run: tables, figures, and artifacts with their lineage.

The training run makes the artifact `model-<id>`; a run of its own (job type export) uses that and makes
`submission-<id>`, so that W&B draws run → model → submission. Invariant: every number is one of summary.json, and
nothing here ends a run that is otherwise done.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from golf.training.login import wandb_mode

FIGURES = {
    **{"size/total_bytes": "total_bytes", "size/artifact_bytes": "artifact_bytes", "size/code_bytes": "code_bytes"},
    **{"throughput/tokens_per_second": "tokens_per_second", "throughput/step_ms_p50": "step_ms_p50"},
    **{"throughput/step_ms_p99": "step_ms_p99", "throughput/train_seconds": "train_seconds"},
    **{"throughput/mfu": "mfu", "throughput/steps": "steps", "parameters": "parameters"},
}
LADDER = ("stage", "bpb", "delta_bpb", "nats_per_token", "tokens", "bytes", "seconds", "protocol")


def figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of a summary under the names that the dashboard's panels use."""
    found = {name: summary.get(key) for name, key in FIGURES.items()}
    found |= {f"size/{kind}": size for kind, size in (summary.get("bytes_by_class") or {}).items()}
    ladder = summary.get("ladder") or []
    found |= {f"ladder/{rung['stage']}/{key}": rung[key] for rung in ladder for key in ("bpb", "nats_per_token")}
    scored = [rung["bpb"] for rung in ladder if rung.get("bpb") is not None]
    found["bpb"] = scored[-1] if scored else None
    failed = (summary.get("rules") or {}).get("failed")
    found["rules_failed"] = None if failed is None else len(failed)
    return {name: value for name, value in found.items() if value is not None}


def tables(summary: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Ladder and bytes by class as (columns, rows)."""
    ladder, before, found = [], None, {}
    for rung in summary.get("ladder") or []:
        delta = None if before is None or rung["bpb"] is None else rung["bpb"] - before
        before = rung["bpb"] if rung["bpb"] is not None else before
        ladder.append([{**rung, "delta_bpb": delta}.get(key) for key in LADDER])
    total, classes = summary.get("total_bytes"), summary.get("bytes_by_class") or {}
    if ladder:
        found["ladder/table"] = (list(LADDER), ladder)
    if total and classes:
        rows = [[kind, size, size / total] for kind, size in sorted(classes.items(), key=lambda item: -item[1])]
        found["size/by_class"] = (["class", "bytes", "share"], rows)
    return found


def log_summary(run: Any, summary: Mapping[str, Any], sensitivity: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write figures and tables into an open W&B run."""
    import wandb

    run.summary.update(figures(summary))
    found = tables(summary)
    for export, lines in sensitivity.items():
        columns = list(dict.fromkeys(name for line in lines for name in line))
        found[f"sensitivity/{export}"] = (columns, [[line.get(name) for name in columns] for line in lines])
    if found:
        run.log({name: wandb.Table(columns=list(columns), data=rows) for name, (columns, rows) in found.items()})


def model_of(run_id: str, path: Path, export: str = "") -> Any:
    """The packed model as a W&B artifact."""
    import wandb

    made = wandb.Artifact(f"model-{run_id}{f'-{export}' if export else ''}", type="model")
    made.add_file(str(path))
    return made


def log_submission(run: Any, export: str, summary: Mapping[str, Any]) -> None:
    """Keep the submission folder of an export (of a golf run folder) for each of its W&B loggers that keeps models."""
    code, artifact = run.code(export), run.artifact(export)
    if not (code.is_file() and artifact.is_file()):
        return
    for node in run.config["logger"].values():
        if not node or not str(node.get("_target_", "")).endswith(".wandb_logger") or not node.get("log_model", True):
            continue
        if wandb_mode(bool(node.get("offline"))) == "disabled":
            continue
        try:
            _export_run(run, export, node, {**summary, **summary.get("exports", {}).get(export, {})})
        except Exception as error:  # of the service, whose errors are of many classes
            run.say(f"submission: not logged to W&B: {' '.join(str(error).split())[:300]}")
            if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
                wandb.finish(exit_code=1)


def _export_run(run: Any, export: str, node: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    import wandb

    from golf.training.loggers import begin_wandb, kept_id

    run_id, own = kept_id(run.path), export == run.config["export"]
    options = {key: node[key] for key in ("project", "group", "tags", "offline") if node.get(key) is not None}
    name = f"{run.config['name']}/{run.path.name}/{export}"
    made = begin_wandb(run.path, name, {"export": export}, f"{run_id}-{export}", job_type="export", **options)
    model = model_of(str(run_id), run.artifact(export), "" if own else export)
    if made.offline:  # use_artifact asks the server for what is already in this folder's own files
        made._log_artifact(model, is_user_created=True, use_after_commit=True)
    else:
        made.use_artifact(model)
    known = {key: summary.get(key) for key in ("sha256", "artifact_bytes", "code_bytes", "total_bytes")}
    submission = wandb.Artifact(
        model.name.split(":")[0].replace("model-", "submission-", 1),
        type="submission",
        metadata={"model": model.name, "run": run_id, "export": export, **known},
    )
    submission.add_dir(str(run.code(export).parent))
    made.log_artifact(submission)
    made.summary.update(figures(summary))
    made.finish()
