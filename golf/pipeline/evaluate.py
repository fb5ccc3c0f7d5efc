"""evaluate.py: score a packed artifact again, under any protocol, without touching it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from golf.data.dataset import open_folder
from golf.errors import UserError
from golf.files import read_yaml, sha256_of, write_atomically
from golf.loading import exports_of
from golf.pipeline.run_folder import RunFolder, open_run_folder
from golf.pipeline.scoring import score_artifact, with_clock
from golf.pipeline.stage import fingerprint
from golf.pipeline.summary import objective, write_summary
from golf.pipeline.validation_split import other_split
from golf.training.device import resolve_hardware


def evaluate_artifact(options: dict[str, Any]) -> float | None:
    """Score `artifact`, or an export of `run`, on the run's validation data or on `data_folder`; returns the objective.

    Results are kept in artifact/<export>/evaluations/<protocol hash>/ of a run, in runs/evaluations/ otherwise.
    """
    artifact, run = locate_artifact(options)
    options["eval"] = with_clock(options["eval"], run.config if run else {})
    data = locate_data(options, run)
    hardware = resolve_hardware(options["hardware"], print)
    seq_len = run.config["data"]["seq_len"] if run else submitted_seq_len(options["submission"])
    if not seq_len and not options["eval"].get("seq_len"):
        raise UserError(
            "eval.seq_len is not known for a file outside a run folder: type eval.seq_len=<tokens per window>"
        )
    protocol = fingerprint([options["eval"], data, options["upstream"]])[:12]
    outside = Path("runs") / "evaluations" / f"{artifact.stem}-{sha256_of(artifact)[:8]}"
    place = (artifact.parent / "evaluations" if run else outside) / protocol
    place.mkdir(parents=True, exist_ok=True)
    output = place / "scores.json"
    say = run.say if run else print
    say(f"scoring {artifact} ({artifact.stat().st_size:,} bytes) on {data['folder']}")
    if run is not None and options["data_folder"]:
        prepared = open_folder(data["folder"], data["tokenizer"], require_train=False)
        if difference := other_split(prepared, run.data_identity()):
            say(f"other data: {difference}; this score does not compare with the run's")
    upstream = options["upstream"]
    trusted = run.own_targets(artifact.parent.name) if run else ()
    ladder = score_artifact(artifact, data, options["eval"], hardware, seq_len, output, say, upstream, trusted)
    write_atomically(place / "protocol.json", json.dumps({"eval": options["eval"], "data": data}, indent=1))
    if run is not None:
        from golf.report.html import write_report

        write_summary(run)
        write_report(run.path)
    value = objective({"ladder": ladder, "exports": {}}, options["objective"])
    if value is not None:
        value.place = str(place)
    return value


def locate_artifact(options: dict[str, Any]) -> tuple[Path, RunFolder | None]:
    """The file to score and the run it belongs to, if any.

    Raises:
        UserError: nothing there; names the exports a run has.
    """
    if options["run"]:
        run = open_run_folder(options["run"])
        artifact = run.artifact(options["export"])
        if not artifact.is_file():
            names = ", ".join(exports_of(run.path)) or "(none yet)"
            raise UserError(f"run={run.path} has no packed export '{options['export']}': type export= one of {names}")
        return artifact, run
    if options["submission"]:
        return submitted_artifact(Path(options["submission"])), None
    if not options["artifact"]:
        raise UserError("nothing to score: type run=<run folder>, artifact=<packed file> or submission=<record folder>")
    artifact = Path(options["artifact"])
    if not artifact.is_file():
        raise UserError(f"artifact={artifact} does not exist: type the path of a packed model.golf")
    folder = artifact.resolve().parent.parent.parent
    return artifact, open_run_folder(folder) if (folder / "config.yaml").is_file() else None


def submitted_artifact(folder: Path) -> Path:
    """The packed weights of a record folder, golf's or another's.

    Raises:
        UserError: none, or several.
    """
    found = sorted(path for suffix in ("golf", "ptz") for path in folder.glob(f"*.{suffix}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none" if folder.is_dir() else "no such folder"
        raise UserError(f"submission={folder} must have one .golf or .ptz file ({names}): type artifact=<that file>")
    return found[0]


def submitted_seq_len(folder: str | None) -> int:
    """Tokens per window that a record folder's resolved configuration tells; 0 if it has none."""
    path = Path(folder) / "resolved_config.yaml" if folder else None
    return int(read_yaml(path)["data"]["seq_len"]) if path and path.is_file() else 0


def locate_data(options: dict[str, Any], run: RunFolder | None) -> dict[str, Any]:
    """Folder and tokenizer of the validation split: as given, else the run's own.

    Raises:
        UserError: neither is known.
    """
    if options["data_folder"]:
        return {"folder": options["data_folder"], "tokenizer": options["tokenizer_file"] or "auto"}
    if run is None:
        raise UserError("no validation data: type data_folder=<folder with fineweb_val_*.bin> (tokenizer_file=<file>)")
    prepared = run.data(require_train=False)
    return {"folder": prepared.folder, "tokenizer": options["tokenizer_file"] or prepared.tokenizer_path}
