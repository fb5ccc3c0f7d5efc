"""A finished run as one row, derived from its folder alone: configuration, code, seed, ladder, bytes, seconds, cost.

Two runs are seeds of one entry when their resolved configurations are equal but for the seed (and for names, loggers
and how far the pipeline was to go). The code is the snapshot in source.tar.zst. Invariant: a row says nothing that is
not in the run's folder, and a folder that cannot be read is passed over with a note.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from golf.errors import UserError
from golf.files import read_yaml
from golf.pipeline.run_folder import RUN_VERSION
from golf.pipeline.stage import fingerprint

# What may differ between the seeds of one entry.
NOT_THE_ENTRY = ("run_version", "seed", "name", "logger", "through", "hydra", "export", "ckpt_path")


@dataclass
class RunRow:
    """A run: its folder and what config.yaml, overrides.yaml and summary.json say."""

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @cached_property
    def experiment(self) -> str | None:
        chosen = [text.partition("=")[2] for text in self.overrides if text.lstrip("+").startswith("experiment=")]
        return chosen[-1] if chosen else None

    @cached_property
    def config_hash(self) -> str:
        return entry_hash(self.config)

    @cached_property
    def sources(self) -> dict[str, str]:
        """SHA-256 of every source file that the run started from."""
        path = self.folder / "source.tar.zst"
        if not path.is_file():
            return {}
        return source_hashes(path.read_bytes())

    @cached_property
    def code_hash(self) -> str:
        return fingerprint(self.sources)

    def rung(self, stage: str | None = None) -> dict[str, Any] | None:
        """The ladder's rung of that name, by default the run's objective or else the last one scored."""
        scored = [entry for entry in self.summary.get("ladder", []) if entry.get("bpb") is not None]
        wanted = stage or str(self.config.get("objective"))
        named = [entry for entry in scored if entry["stage"] == wanted]
        return named[-1] if named else (scored[-1] if scored and stage is None else None)

    def seconds(self) -> float | None:
        """Training and evaluation together: what a rented machine is paid for."""
        parts = [self.summary.get("train_seconds"), *(e.get("seconds") for e in self.summary.get("ladder", []))]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def outcome(self) -> str | None:
        """What a run with a target loss, or with a fixed set of tokens, came to; None for other runs."""
        budget, target = self.config.get("budget") or {}, self.summary.get("target")
        parts = []
        if target:
            best = target.get("best_loss")
            missed = f"target {target['loss']:g} not reached" + (f" (best {best:.4f})" if best is not None else "")
            parts.append(f"target {target['loss']:g} in {target['seconds']:,.1f} s" if target["reached"] else missed)
        if budget.get("unique_tokens") and self.summary.get("passes") is not None:
            parts.append(f"{self.summary['passes']:.2f} passes of {self.summary['unique_tokens']:,} tokens")
        return ", ".join(parts) or None

    def record(self, price: float | None = None) -> dict[str, Any]:
        """The row as plain data. price: dollars per hour of the whole machine."""
        seconds, rung = self.seconds(), self.rung()
        ladder = {entry["stage"]: entry.get("bpb") for entry in self.summary.get("ladder", [])}
        failed = (self.summary.get("rules") or {}).get("failed")
        return {
            "folder": str(self.folder),
            "name": self.config.get("name"),
            "experiment": self.experiment,
            "parent": self.config.get("parent"),
            "seed": self.seed,
            "config": self.config_hash,
            "code": self.code_hash,
            "commit": self.environment.get("commit"),
            "time": self.environment.get("time"),
            "hardware": self.summary.get("hardware"),
            "stage": rung["stage"] if rung else None,
            "bpb": rung["bpb"] if rung else None,
            "nats_per_token": rung.get("nats_per_token") if rung else None,
            "ladder": ladder,
            "total_bytes": self.summary.get("total_bytes"),
            "parameters": self.summary.get("parameters"),
            "steps": self.summary.get("steps"),
            "step_ms": self.summary.get("step_ms_p50"),
            "tokens_per_second": self.summary.get("tokens_per_second"),
            "outcome": self.outcome(),
            "target": self.summary.get("target"),
            "unique_tokens": self.summary.get("unique_tokens"),
            "passes": self.summary.get("passes"),
            "seconds": seconds,
            "cost_usd": seconds / 3600 * price if seconds is not None and price is not None else None,
            "rules_failed": failed,
        }


def entry_hash(config: dict[str, Any]) -> str:
    """What all seeds of a resolved configuration have in common."""
    return fingerprint({key: value for key, value in config.items() if key not in NOT_THE_ENTRY})


def source_hashes(snapshot: bytes) -> dict[str, str]:
    """SHA-256 by file name of a source.tar.zst."""
    import zstandard

    content = zstandard.ZstdDecompressor().stream_reader(snapshot).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(entry.name, archive.extractfile(entry)) for entry in archive.getmembers() if entry.isfile()]
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in members if file is not None}


def read_row(folder: Path) -> RunRow:
    """A run folder as a row; a run that has not come to a summary has an empty one.

    Raises:
        UserError: not a run folder, or one that cannot be read.
    """
    config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
    if not isinstance(config, dict) or config.get("run_version") != RUN_VERSION:
        raise UserError(f"{folder} is not a run folder of this golf: type a folder like runs/<name>/<time>")
    overrides = read_yaml(folder / "overrides.yaml") if (folder / "overrides.yaml").is_file() else []
    summary, environment = (_json(folder / name) for name in ("summary.json", "environment.json"))
    return RunRow(folder, config, [str(text) for text in overrides or []], summary, environment)


def rows_below(folder: Path, notes: list[str] | None = None) -> list[RunRow]:
    """All runs below a folder, in the order of their paths (jobs of a sweep by number)."""
    rows: list[RunRow] = []
    for path in _run_folders(folder):
        try:
            rows.append(read_row(path))
        except UserError as error:
            if notes is not None:
                notes.append(f"{path} was passed over: {error}")
    return rows


def _run_folders(folder: Path, depth: int = 4) -> Iterator[Path]:
    """Folders with a config.yaml that is a run's; a run's own subfolders are not searched."""
    if (folder / "config.yaml").is_file():
        yield folder
        return
    if depth and folder.is_dir():
        for path in sorted((path for path in folder.iterdir() if path.is_dir()), key=_by_number):
            if not path.name.startswith("."):
                yield from _run_folders(path, depth - 1)


def _by_number(path: Path) -> tuple[bool, int, str]:
    return path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path.name


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or move the run out of the way") from error
    return found if isinstance(found, dict) else {}
