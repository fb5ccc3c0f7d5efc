"""The record folder: everything the challenge asks for, derived from finished run folders (`submission=record`).

README.md, submission.json, train_gpt.py, final_model.golf, one log per seed, requirements.txt, resolved_config.yaml,
run.sh and SHA256SUMS. Every number comes from the runs' own records through `SeedResult`, so that page, JSON and logs
cannot disagree. Invariant: the folder appears whole or not at all, an existing one is never overwritten, and none is
made of runs that are unfinished, partly scored, of different configurations or code, or over the limit.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.errors import LimitExceeded, UserError
from golf.files import sha256_of, write_atomically, write_yaml
from golf.pipeline.run_folder import RunFolder, source_snapshot
from golf.pipeline.stage import stage_result
from golf.runs.entries import require_one_entry
from golf.runs.library import RunRow, read_row, rows_below, source_hashes
from golf.submission.flatten import flatten
from golf.submission.pack import unpacked
from golf.submission.record_pages import log_text, readme_text, requirements_text, run_script

TRACKS = ("10min_16mb", "non_record", "unlimited")
RECORD_SECONDS = 600.0
CLAIMS: dict[str, tuple[type | tuple[type, ...], bool]] = {  # field → type, required
    "name": (str, True),
    "author": (str, True),
    "github_id": (str, True),
    "date": (str, True),
    "track": (str, True),
    "blurb": (str, True),
    "val_loss": (float, True),
    "val_bpb": (float, True),
    "val_loss_std": (float, False),
    "val_bpb_std": (float, False),
    "seeds": (list, True),
    "seed_results": (dict, True),
    "pre_quant_val_loss": (float, False),
    "pre_quant_val_bpb": (float, False),
    "bytes_total": (int, True),
    "bytes_code": (int, True),
    "bytes_model": (int, True),
    "wallclock_seconds": (float, True),
    "eval_time_seconds": (float, True),
    "step_stop": (int, True),
    "hardware": (str, True),
    "pytorch_version": (str, True),
    "compliance": (dict, True),
    "golf": (dict, True),
}


@dataclass(frozen=True)
class SeedResult:
    """One seed: the run, and what its records say. `ladder`: scored rungs, the last one is the submitted score."""

    row: RunRow
    ladder: list[dict[str, Any]]
    artifact: Path
    artifact_bytes: int
    train_seconds: float
    steps: int
    step_ms: float | None
    calibration: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.row.seed

    @property
    def final(self) -> dict[str, Any]:
        return self.ladder[-1]

    @property
    def eval_seconds(self) -> float:
        return float(self.final.get("seconds") or 0.0)

    def rung(self, stage: str) -> dict[str, Any] | None:
        return next((entry for entry in self.ladder if entry["stage"] == stage), None)


def write_record(run: RunFolder, export: str, config: dict[str, Any], settings: dict[str, Any]) -> Path:
    """Write submission/<export>/record of a run whose code was verified; returns the folder.

    Args:
        config: the run's, with this export's quantiser, codec and evaluation.
        settings: name, author, github_id, blurb, track (null: what the runs allow), runs (further seeds; empty: those
            of the same entry beside this run), other_code (ship code that differs from the runs' snapshot).

    Raises:
        UserError: something is missing or does not fit together. LimitExceeded: over the bytes.
    """
    changed = require_settings(run, export, settings)
    target = run.path / "submission" / export / "record"
    seeds = [seed_result(row, export) for row in seed_rows(run, settings.get("runs") or [], export)]
    code = run.code(export)
    if not code.is_file():
        raise UserError(f"{code} is missing: type python export.py run={run.path} export={export}")
    claims = claims_of(run, seeds, code, settings, changed)
    require_size(claims, run, export)
    part = target.with_name("record.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copyfile(code, part / "train_gpt.py")
    shutil.copyfile(run.artifact(export), part / "final_model.golf")
    write_atomically(part / "submission.json", json.dumps(claims, indent=2, ensure_ascii=False) + "\n")
    for result in seeds:
        write_atomically(part / f"train_seed{result.seed}.log", log_text(result, claims["bytes_code"]))
    write_yaml(part / "resolved_config.yaml", config)
    write_atomically(
        part / "requirements.txt", requirements_text(readable_source(code, config), seeds[0].row.environment)
    )
    write_atomically(part / "run.sh", run_script(config, [result.seed for result in seeds]))
    write_atomically(part / "README.md", readme_text(claims, seeds, config))
    sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(part.iterdir())]
    write_atomically(part / "SHA256SUMS", "".join(sums))
    part.rename(target)
    return target


def readable_source(code: Path, config: dict[str, Any]) -> str:
    """The text whose imports can be read: the file itself, or what a file that unpacks itself was made from."""
    content = code.read_bytes()
    return content.decode() if unpacked(content) is None else flatten(config)


def require_settings(run: RunFolder, export: str, settings: dict[str, Any]) -> list[str]:
    """What can be said before anything is computed: who submits, that no folder is there yet, and that this is the code
    of the run; returns the source files that are not.

    Raises:
        UserError: one of them is not so.
    """
    target = run.path / "submission" / export / "record"
    if target.exists():
        raise UserError(f"{target} exists and is kept: remove it, or type export=<another name>")
    if not settings.get("author") or not settings.get("github_id"):
        raise UserError(
            "a record needs record.author and record.github_id: type record.author=Ada record.github_id=ada"
        )
    changed = changed_since(read_row(run.path))
    if changed and not settings.get("other_code"):
        more = "" if len(changed) < 5 else f" and {len(changed) - 4} more files"
        raise UserError(
            f"{run.path} was trained with other code than this: {', '.join(changed[:4])}{more}; check that version out "
            "(environment.json has its commit), or type record.other_code=true (submission.json will name the files)"
        )
    return changed


def seed_rows(run: RunFolder, further: list[str], export: str) -> list[RunRow]:
    """This run first, then the other seeds of the entry, each with this export scored."""
    own = read_row(run.path)
    if further:
        others = [read_row(Path(path)) for path in further if Path(path).resolve() != run.path.resolve()]
        require_one_entry([own, *others])
    else:
        beside = [row for row in rows_below(run.path.parent) if row.folder.resolve() != run.path.resolve()]
        others = [row for row in beside if row.config_hash == own.config_hash and row.code_hash == own.code_hash]
        others = [row for row in others if (row.summary.get("exports") or {}).get(export)]
    found = {row.seed: row for row in [*others, own]}
    return [own, *(row for seed, row in sorted(found.items()) if seed != own.seed)]


def seed_result(row: RunRow, export: str) -> SeedResult:
    """What a run says of an export.

    Raises:
        UserError: the run isn't finished, or the final score is not of the whole split.
    """
    found = (row.summary.get("exports") or {}).get(export)
    if not found:
        told = f"type python export.py run={row.folder} export={export} … as for the other seeds"
        raise UserError(f"{row.folder} has no export '{export}': {told}")
    ladder = [entry for entry in found["ladder"] if entry.get("bpb") is not None]
    if not ladder or ladder[-1]["stage"] in ("raw", "averaged") or row.summary.get("train_seconds") is None:
        raise UserError(f"{row.folder} is not finished: type python train.py run={row.folder}")
    coverage = ladder[-1].get("coverage") or {}
    if not coverage.get("complete"):
        told = f"{coverage.get('never_scored', 0):,} targets never, {coverage.get('scored_twice', 0):,} more than once"
        raise UserError(
            f"{row.folder}: the final score is not of every validation token once ({told}); "
            "type python export.py run=… eval.max_tokens=0 eval.tail=exact"
        )
    artifact = row.folder / "artifact" / export / "model.golf"
    if not artifact.is_file():
        raise UserError(f"{artifact} is missing: type python export.py run={row.folder} export={export}")
    summary = row.summary
    size, step_ms = artifact.stat().st_size, summary.get("step_ms_p50")
    root = row.folder if export == row.config["export"] else artifact.parent
    calibration = stage_result(root, "calibrate") or {}
    seconds, steps = float(summary["train_seconds"]), int(summary["steps"])
    return SeedResult(row, ladder, artifact, size, seconds, steps, step_ms, calibration)


def changed_since(row: RunRow) -> list[str]:
    """Source files that differ between the run's snapshot and the code that exports it."""
    now = source_hashes(source_snapshot())
    return sorted(name for name in {*now, *row.sources} if now.get(name) != row.sources.get(name))


def track_of(settings: dict[str, Any], seeds: list[SeedResult], official: bool) -> str:
    """The track asked for, or the strictest that the runs allow.

    Raises:
        UserError: the runs don't meet the track asked for.
    """
    seconds = max(result.train_seconds for result in seeds)
    hardware = str(seeds[0].row.summary.get("hardware"))
    reasons = [] if seconds <= RECORD_SECONDS else [f"training took {seconds:.1f} s of {RECORD_SECONDS:.0f}"]
    if not ("H100" in hardware and hardware.startswith("8")):
        reasons.append(f"the hardware was {hardware}, not 8 x H100")
    if max(result.eval_seconds for result in seeds) > RECORD_SECONDS:
        reasons.append("evaluation took more than 600 s")
    if not official:
        reasons.append("the score is not of the official validation split")
    asked = settings.get("track")
    if asked not in (None, *TRACKS):
        raise UserError(f"record.track={asked}: allowed are {', '.join(TRACKS)}; type record.track=non_record")
    if asked == "10min_16mb" and reasons:
        raise UserError(f"record.track=10min_16mb: {'; '.join(reasons)}; type record.track=non_record")
    return asked or (("non_record" if seconds <= RECORD_SECONDS else "unlimited") if reasons else "10min_16mb")


def claims_of(
    run: RunFolder, seeds: list[SeedResult], code: Path, settings: dict[str, Any], changed: list[str]
) -> dict[str, Any]:
    """submission.json, checked against `CLAIMS`."""
    from golf.runs.leaderboard import SPLIT_BYTES, SPLIT_TOLERANCE

    finals, first = [result.final for result in seeds], seeds[0]
    before = [entry for result in seeds if (entry := result.rung("averaged") or result.rung("raw"))]
    official = all(abs((entry.get("bytes") or 0) / SPLIT_BYTES - 1) < SPLIT_TOLERANCE for entry in finals)
    track, code_bytes = track_of(settings, seeds, official), code.stat().st_size
    total = max(result.artifact_bytes for result in seeds) + code_bytes
    claims: dict[str, Any] = {
        "name": settings.get("name") or run.config["name"],
        "author": settings["author"],
        "github_id": settings["github_id"],
        "date": time.strftime("%Y-%m-%d"),
        "track": track,
        "blurb": settings.get("blurb") or "",
        "val_loss": statistics.fmean(entry["nats_per_token"] for entry in finals),
        "val_bpb": statistics.fmean(entry["bpb"] for entry in finals),
        **_deviations(finals),
        "seeds": [result.seed for result in seeds],
        "seed_results": {str(result.seed): _claims_of_seed(result, code_bytes) for result in seeds},
        "pre_quant_val_loss": statistics.fmean(entry["nats_per_token"] for entry in before),
        "pre_quant_val_bpb": statistics.fmean(entry["bpb"] for entry in before),
        "bytes_total": total,
        "bytes_code": code_bytes,
        "bytes_model": total - code_bytes,
        "wallclock_seconds": max(result.train_seconds for result in seeds),
        "eval_time_seconds": max(result.eval_seconds for result in seeds),
        "step_stop": max(result.steps for result in seeds),
        "hardware": str(first.row.summary.get("hardware")),
        "pytorch_version": str((first.row.environment.get("packages") or {}).get("torch")),
        "compliance": {
            "train_under_600s": all(result.train_seconds <= RECORD_SECONDS for result in seeds),
            "eval_under_600s": all(result.eval_seconds <= RECORD_SECONDS for result in seeds),
            "artifact_under_16mb": total <= 16_000_000,
            "three_seeds": len(seeds) >= 3,
            "official_validation_split": official,
            "every_token_scored_once": True,
        },
        "golf": {
            "version": first.row.environment.get("golf"),
            "commit": first.row.environment.get("commit"),
            "config": first.row.config_hash,
            "code": first.row.code_hash,
            "code_differs_from_the_runs": changed,
            "protocol": first.final.get("protocol"),
            "val_tokens": first.final.get("tokens"),
            "val_bytes": first.final.get("bytes"),
        },
    }
    wrong = claim_errors(claims)
    if wrong:
        raise UserError(f"submission.json would be wrong: {'; '.join(wrong)}")
    return claims


def _deviations(finals: list[dict[str, Any]]) -> dict[str, float]:
    """Sample standard deviations (n - 1), where there is more than one seed."""
    if len(finals) < 2:
        return {}
    names = {"val_loss_std": "nats_per_token", "val_bpb_std": "bpb"}
    return {name: statistics.stdev(entry[key] for entry in finals) for name, key in names.items()}


def _claims_of_seed(result: SeedResult, code_bytes: int) -> dict[str, Any]:
    return {
        "val_loss": result.final["nats_per_token"],
        "val_bpb": result.final["bpb"],
        "artifact_bytes": result.artifact_bytes,
        "bytes_total": result.artifact_bytes + code_bytes,
        "steps": result.steps,
        "step_avg_ms": result.train_seconds / result.steps * 1000,
        "train_time_s": result.train_seconds,
        "eval_time_s": result.eval_seconds,
        "ladder": {entry["stage"]: entry["bpb"] for entry in result.ladder},
    }


def claim_errors(claims: dict[str, Any]) -> list[str]:
    """What of a submission.json has another type than `CLAIMS`, or is missing."""
    found = [f"{name} is missing" for name, (_, required) in CLAIMS.items() if required and name not in claims]
    for name, value in claims.items():
        kind = CLAIMS.get(name, (object, False))[0]
        if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
            found.append(f"{name} is {type(value).__name__}")
    return found


def require_size(claims: dict[str, Any], run: RunFolder, export: str) -> None:
    """Raise LimitExceeded, with the bytes by class, for a record that is too large."""
    limit = int(run.config["budget"]["limit_bytes"])
    if claims["bytes_total"] <= limit:
        return
    classes = read_row(run.path).summary["exports"][export].get("bytes_by_class") or {}
    told = ", ".join(f"{name} {size:,}" for name, size in sorted(classes.items(), key=lambda item: -item[1])[:6])
    raise LimitExceeded(
        f"{claims['bytes_total']:,} bytes, {claims['bytes_total'] - limit:,} over the limit of {limit:,} ({told}): "
        f"no record folder; rungs that would fit: python export.py run={run.path} fit.margin_bytes=0"
    )
