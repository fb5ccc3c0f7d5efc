"""What is audited: a run folder, a packed model, a submission folder, a log, or an evaluation path in memory.

A subject knows what evidence there is; rules ask it and never open files themselves. What takes time (a network, the
data) is made when it is first asked for. Invariant: torch is only imported by what runs a network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf.errors import UserError
from golf.rules.byte_fingerprint import is_whole_split, known_count
from golf.rules.facts import Facts, facts_from_log, facts_from_run

if TYPE_CHECKING:
    from golf.rules.examination import AuditedPath, Examination
    from golf.rules.material import Material
    from golf.rules.sandbox import SandboxResult

LOG_SUFFIXES = (".log", ".txt", ".out")
MODEL_SUFFIXES = (".golf", ".ptz")
LOG_BYTES = 64_000_000
SIBLINGS = 100  # runs of one name that are looked at


@dataclass(frozen=True)
class SplitCount:
    """What a count of validation targets says about the split."""

    targets: int
    whole: bool
    reason: str


@dataclass
class Subject:
    """Evidence about one thing. `why_no_path` says what is missing where nothing can be scored.

    shipped: model files that count; code: code files that count.  claims: submission.json.
    upstream: what a .ptz of the challenge's scripts does not say about its network (conf/evaluate.yaml, `upstream`).
    given_path, given_material: for what is in memory (tests, notebooks).
    """

    kind: str
    where: str
    folder: Path | None = None
    facts: list[Facts] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    shipped: list[Path] = field(default_factory=list)
    code: list[Path] = field(default_factory=list)
    liveness: list[dict[str, Any]] | None = None
    export: str | None = None
    data_folder: str | None = None
    tokenizer_file: str | None = None
    against: list[Facts] = field(default_factory=list)
    siblings: list[dict[str, Any]] = field(default_factory=list)
    quick: bool = False
    upstream: dict[str, Any] = field(default_factory=dict)
    given_path: AuditedPath | None = None
    given_material: Material | None = None
    why_no_path: str = "only records are here"

    @cached_property
    def examination(self) -> Examination | None:
        """Observations of the evaluation path, None where there is nothing to run."""
        if self.quick:
            self.why_no_path = "--quick reads records only"
            return None
        from golf.rules.examination import Examination

        if self.given_path is not None:
            return Examination(self.given_path)
        if self.artifact is None:
            return None
        from golf.rules.network import path_of

        try:
            return Examination(path_of(self))
        except UserError as error:
            self.why_no_path = str(error)
            return None

    @property
    def artifact(self) -> Path | None:
        """The packed model that golf can open: its own, or a file of the challenge's scripts."""
        return next((path for suffix in MODEL_SUFFIXES for path in self.shipped if path.suffix == suffix), None)

    @cached_property
    def material(self) -> Material | None:
        """Tokenizer, validation data and training data, as far as they are here."""
        if self.given_material is not None or self.quick:
            return self.given_material
        from golf.rules.material import material_of

        return material_of(self)

    @cached_property
    def sandboxed(self) -> SandboxResult | None:
        """A few windows, scored by a locked-up process; None without a model or data."""
        if self.artifact is None or self.material is None or self.material.folder is None:
            return None
        from golf.rules.sandbox import score_in_sandbox

        return score_in_sandbox(self, self.material)

    @property
    def final_coverage(self) -> dict[str, Any] | None:
        """Coverage of the last score of the ladder."""
        ladder = [entry for entry in self.summary.get("ladder", []) if entry.get("coverage")]
        return ladder[-1]["coverage"] if ladder else None

    @property
    def final_record(self) -> dict[str, Any]:
        """What the ledger noted while the last score was made: states, updates, what was read, seconds by phase."""
        records = [entry["record"] for entry in self.summary.get("ladder", []) if entry.get("record")]
        return records[-1] if records else {}

    @property
    def known_split(self) -> SplitCount | None:
        """What the logs' counts of validation tokens mean, where they are of the size of the challenge's split."""
        counts = [facts.val_tokens for facts in self.facts if facts.val_tokens]
        if not counts or self.kind == "run":
            return None
        targets = counts[0]
        if len(set(counts)) > 1:
            return SplitCount(targets, False, f"seeds were scored on different splits: {sorted(set(counts))} tokens")
        known = known_count(targets)
        if known is not None:
            reason = f"{targets:,} targets: {known.name}" + (f" ({known.note})" if known.note else "")
            return SplitCount(targets, known.whole and not known.note, reason)
        if not is_whole_split(targets):
            return SplitCount(targets, False, f"{targets:,} validation tokens: the whole split has over 38 million")
        return SplitCount(targets, True, f"{targets:,} targets: the size of the whole split, not a published count")


def open_subject(path: Path, **given: Any) -> Subject:
    """The subject at a path.

    Raises:
        UserError: nothing there that can be audited.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: type a run folder, a packed model, a submission folder or a log")
    if path.is_dir():
        if (path / "config.yaml").is_file():
            return run_subject(path, **given)
        if (path / "submission.json").is_file() or list(path.glob("train_gpt*.py")):
            return submission_subject(path, **given)
        raise UserError(f"{path} is neither a run (config.yaml) nor a submission (submission.json, train_gpt.py)")
    if path.suffix in MODEL_SUFFIXES:
        return artifact_subject(path, **given)
    if path.suffix in LOG_SUFFIXES:
        return log_subject(path, **given)
    raise UserError(
        f"{path}: golf audits run folders, .golf and .ptz files, submission folders and logs (.log, .txt, .out)"
    )


def run_subject(folder: Path, export: str | None = None, **given: Any) -> Subject:
    """A run of golf: everything its folder says."""
    from golf.pipeline.run_folder import open_run_folder
    from golf.pipeline.stage import STAGES, read_manifest

    run = open_run_folder(folder)
    name = export or run.config["export"]
    root = run.export_root(name)
    stages = {}
    for stage in STAGES:
        manifest = read_manifest(root / "stages" / stage / "manifest.json")
        manifest = manifest or read_manifest(folder / "stages" / stage / "manifest.json")
        if manifest is not None:
            stages[stage] = manifest
    summary = _json(folder / "summary.json")
    own = (summary.get("exports") or {}).get(name)
    if own and name != run.config["export"]:
        summary = {**summary, **{key: value for key, value in own.items() if key in summary}}
    liveness = _json(folder / "liveness.json").get("techniques")
    files = [path for path in (run.artifact(name),) if path.is_file()]
    code = [path for path in (run.code(name),) if path.is_file()]
    subject = Subject("run", str(folder), folder, config=run.config, summary=summary, stages=stages, **given)
    subject.facts = [facts_from_run(summary, stages, str(folder))] if summary else []
    subject.shipped, subject.code, subject.liveness, subject.export = files, code, liveness, name
    subject.siblings = siblings_of(folder)
    subject.why_no_path = "the run has no packed model yet"
    return subject


def siblings_of(folder: Path) -> list[dict[str, Any]]:
    """Runs of the same name: folder, seed, and a fingerprint of the configuration without the seed."""
    from golf.files import read_yaml
    from golf.pipeline.stage import fingerprint

    found = []
    for path in sorted(folder.resolve().parent.glob("*/config.yaml"))[:SIBLINGS]:
        config = read_yaml(path)
        own = {key: value for key, value in config.items() if key not in ("seed", "hydra", "through")}
        same = path.parent.samefile(folder)
        found.append({"folder": path.parent.name, "seed": config.get("seed"), "config": fingerprint(own), "own": same})
    return found


def artifact_subject(path: Path, **given: Any) -> Subject:
    """A packed model; inside a run folder, the run's data and protocol are used."""
    folder = path.resolve().parent.parent.parent
    if (folder / "config.yaml").is_file():
        found = run_subject(folder, path.resolve().parent.name, **given)
        return found
    code = [other for other in (path.parent / "train_gpt.py",) if other.is_file()]
    return Subject("artifact", str(path), path.parent, shipped=[path], code=code, **given)


def submission_subject(folder: Path, **given: Any) -> Subject:
    """A submission folder: claims, logs, code and model files."""
    subject = Subject("submission", str(folder), folder, claims=_json(folder / "submission.json"), **given)
    subject.facts = [facts_from_log(_text(path), path.name) for path in logs_in(folder)]
    subject.code = sorted(path for path in folder.glob("train_gpt*.py") if path.is_file())[:1]
    suffixes = (".golf", ".ptz", ".pt", ".bin", ".xz", ".br", ".zst")
    subject.shipped = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    subject.why_no_path = "the folder has no model that golf can open"
    return subject


def log_subject(path: Path, **given: Any) -> Subject:
    """A foreign training log."""
    facts = facts_from_log(_text(path), path.name)
    if not facts.scores:
        raise UserError(f"{path} has no line with val_loss: and val_bpb: numbers: not a training log of the challenge")
    return Subject("log", str(path), None, [facts], why_no_path="a log has nothing to run", **given)


def logs_in(folder: Path) -> list[Path]:
    """Logs of a submission folder: not requirements, not the README, not an empty file."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in LOG_SUFFIXES]
    return [path for path in found if not path.name.startswith("requirements") and "val_bpb" in _text(path)]


def _text(path: Path) -> str:
    if path.stat().st_size > LOG_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: a training log has less than {LOG_BYTES:,}")
    return path.read_text(encoding="utf-8", errors="replace")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON ({error}): restore it") from error
    return found if isinstance(found, dict) else {}
