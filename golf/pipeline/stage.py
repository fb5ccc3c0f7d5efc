"""Stages: a step of the pipeline that reads files, writes files, and leaves a manifest that says both.

Invariant: a stage whose manifest fits (same settings and inputs, outputs still as written) is not run again; any
other is run from its beginning. The manifest is written last and atomically, so a killed stage has none.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf import __version__
from golf.files import DISK_ERRORS, disk_error, sha256_of, write_atomically

MANIFEST_VERSION = 1
STAGES = ("train", "average", "calibrate", "quantise", "pack", "verify", "score")


@dataclass(frozen=True)
class Stage:
    """`work(folder)` writes files and returns (output files, result as plain data)."""

    name: str
    settings: Any
    inputs: tuple[Path, ...]
    work: Callable[[Path], tuple[Iterable[Path], dict[str, Any]]]


def run_stage(root: Path, stage: Stage) -> dict[str, Any]:
    """Run a stage under `root`/stages/<name> unless it is done; returns its result.

    Raises:
        UserError: the disk refuses; stages that were finished before stay finished.
    """
    folder = root / "stages" / stage.name
    manifest_path = folder / "manifest.json"
    done = finished_manifest(root, stage)
    if done is not None:
        return done["result"]
    wanted, begun = _wanted(root, stage), time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest_path.unlink(missing_ok=True)
        outputs, result = stage.work(folder)
        manifest = {
            "version": MANIFEST_VERSION,
            "golf": __version__,
            "stage": stage.name,
            **wanted,
            "outputs": _hashes(outputs, root),
            "seconds": round(time.monotonic() - begun, 3),
            "result": result,
        }
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise disk_error(error, Path(error.filename or folder)) from error
    write_atomically(manifest_path, json.dumps(manifest, indent=1))
    return result


def finished_manifest(root: Path, stage: Stage) -> dict[str, Any] | None:
    """The manifest of a stage that need not run again, None if it must."""
    done = read_manifest(root / "stages" / stage.name / "manifest.json")
    if done is None or any(done.get(key) != value for key, value in _wanted(root, stage).items()):
        return None
    return done if _intact(done["outputs"], root) else None


def _wanted(root: Path, stage: Stage) -> dict[str, Any]:
    return {"settings": fingerprint(stage.settings), "inputs": _hashes(stage.inputs, root)}


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest of this version, None if there is none (or half of one)."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if manifest["version"] == MANIFEST_VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stage_result(root: Path, name: str) -> dict[str, Any] | None:
    """The result of a finished stage, None if it is not finished."""
    manifest = read_manifest(root / "stages" / name / "manifest.json")
    return {**manifest["result"], "stage_seconds": manifest["seconds"]} if manifest else None


def fingerprint(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _hashes(paths: Iterable[Path], root: Path) -> dict[str, str]:
    return {_relative(path, root): sha256_of(path) for path in sorted(paths)}


def _intact(outputs: dict[str, str], root: Path) -> bool:
    """Whether every output is there as it was written."""
    paths = {name: Path(name) if Path(name).is_absolute() else root / name for name in outputs}
    return all(path.is_file() and sha256_of(path) == outputs[name] for name, path in paths.items())
