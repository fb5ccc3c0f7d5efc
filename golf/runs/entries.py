"""What is compared: an entry, that is one configuration and its code, with a score for every seed.

An entry comes from run folders, from a folder of them (a sweep holds one entry per configuration), from a submission
folder, or from the published leaderboard. Invariant: all scores of an entry are seeds of the same configuration and the
same source, of the same rung, on the same validation tokens; anything else is refused with the first keys that differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golf.config.nearest import offer
from golf.errors import UserError
from golf.runs.diff import differences
from golf.runs.leaderboard import Published, find_published, published_names
from golf.runs.library import NOT_THE_ENTRY, RunRow, rows_below

FORMS = "a run folder, a folder of runs, several with commas, a submission folder, or a published record"


@dataclass(frozen=True)
class Score:
    """One seed's result. seed: as text, since published seeds have names such as 1337/run2."""

    seed: str
    bpb: float
    nats_per_token: float | None
    tokens: int | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    step_ms: float | None = None
    folder: str | None = None

    @property
    def tokens_per_byte(self) -> float | None:
        if self.tokens and self.bytes:
            return self.tokens / self.bytes
        return self.bpb * 0.6931471805599453 / self.nats_per_token if self.nats_per_token else None


@dataclass
class Entry:
    """label: how it is called in the table. rows: the runs behind it, empty for published entries."""

    label: str
    scores: list[Score]
    stage: str
    rows: list[RunRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    published: bool = False

    @property
    def bpb(self) -> list[float]:
        return [score.bpb for score in self.scores]

    @property
    def hardware(self) -> set[str]:
        return {str(row.summary.get("hardware")) for row in self.rows}

    def by_seed(self, unit: str) -> dict[str, float]:
        values = {score.seed: getattr(score, unit) for score in self.scores}
        return {seed: value for seed, value in values.items() if value is not None}


def entries_of(text: str, stage: str | None = None, despite: bool = False) -> list[Entry]:
    """The entries that an argument names: one, or those of a sweep.

    Raises:
        UserError: it names nothing, holds nothing that was scored, or mixes configurations or sources.
    """
    if "," in text and not Path(text).exists():
        rows = [row for part in text.split(",") for row in _rows(part.strip())]
        return [_entry(rows, stage, text, despite)]
    path = Path(text)
    if (path / "submission.json").is_file():
        return [_submission(path)]
    if path.is_dir() or (Path("runs") / text).is_dir():
        folder = path if path.is_dir() else Path("runs") / text
        groups: dict[str, list[RunRow]] = {}
        for row in rows_below(folder):
            groups.setdefault(row.config_hash, []).append(row)
        if not groups:
            raise UserError(f"{text}: no runs in it; type {FORMS}")
        labels = _labels(list(groups.values()), folder)
        return [_entry(rows, stage, label, despite) for rows, label in zip(groups.values(), labels)]
    found = find_published(text)
    if found is None:
        raise UserError(f"{text}: {offer(text, published_names())}; type {FORMS}")
    return [_published(found)]


def scored_entries(folder: Path, below: Sequence[RunRow] | None = None) -> list[Entry]:
    """The entries of a folder of runs that have a score; seeds whose code or last rung differs are no entry.

    below: its rows, where they were read already.
    """
    groups: dict[tuple[str, str, str], list[RunRow]] = {}
    for row in rows_below(folder) if below is None else below:
        rung = row.rung()
        if rung is not None:
            groups.setdefault((row.config_hash, row.code_hash, str(rung["stage"])), []).append(row)
    labels = _labels([*groups.values()], folder) if groups else []
    for place, (config, code, stage) in enumerate(groups):
        if labels.count(labels[place]) > 1:
            labels[place] += f" ({stage}, configuration {config[:6]}, code {code[:6]})"
    return [entry_of_rows(rows, label) for rows, label in zip(groups.values(), labels)]


def entry_of_rows(rows: Sequence[RunRow], label: str) -> Entry:
    """An entry of scored runs that have one configuration, one code and one rung."""
    return _entry(rows, None, label, False)


def _rows(text: str) -> list[RunRow]:
    found = rows_below(Path(text)) if Path(text).is_dir() else []
    if not found:
        raise UserError(f"{text}: no run folder there; type {FORMS}")
    return found


def _labels(groups: Sequence[Sequence[RunRow]], folder: Path) -> list[str]:
    """What tells the groups apart: the experiment, else the overrides that not all have."""
    firsts = [rows[0] for rows in groups]
    names = [row.experiment or str(row.config.get("name") or folder.name) for row in firsts]
    parts = [row.config.get("ablate") for row in firsts]
    names = [f"{name} without {part}" if part else name for name, part in zip(names, parts)]
    if len(set(names)) == len(names):
        return names
    common = set(firsts[0].overrides).intersection(*(row.overrides for row in firsts))
    told = [" ".join(o for o in row.overrides if o not in common and not o.startswith("seed=")) for row in firsts]
    return [label or name for label, name in zip(told, names)]


def _entry(rows: Sequence[RunRow], stage: str | None, label: str, despite: bool) -> Entry:
    if not despite:
        require_one_entry(rows)
    notes, by_seed = [], {}
    for row in rows:
        if row.rung(stage) is None:
            notes.append(f"{label}: {row.folder} has no {stage or 'score'} yet and is left out")
            continue
        if row.seed in by_seed:
            notes.append(f"{label}: seed {row.seed} ran more than once; the last of them counts")
        by_seed[row.seed] = row
    used = list(by_seed.values())
    if not used:
        stages = sorted({e["stage"] for row in rows for e in row.summary.get("ladder", [])})
        raise UserError(f"{label}: no run with a {stage or 'score'}; scored are: {', '.join(stages) or 'none'}")
    rungs = {str((row.rung(stage) or {})["stage"]) for row in used}
    if len(rungs) > 1:
        told = ", ".join(sorted(rungs))
        raise UserError(f"{label}: seeds end on different rungs ({told}): type --stage {min(rungs)}")
    scores = [_score(row, row.rung(stage) or {}) for row in used]
    if despite and len({row.config_hash for row in used}) + len({row.code_hash for row in used}) > 2:
        notes.append(f"{label}: seeds of different configurations or sources, compared because --despite was given")
    return Entry(label, scores, rungs.pop(), used, notes)


def _score(row: RunRow, rung: dict[str, Any]) -> Score:
    return Score(
        str(row.seed),
        rung["bpb"],
        rung.get("nats_per_token"),
        rung.get("tokens"),
        rung.get("bytes"),
        row.summary.get("total_bytes"),
        row.summary.get("step_ms_p50"),
        str(row.folder),
    )


def require_one_entry(rows: Sequence[RunRow]) -> None:
    """Refuse seeds whose configuration or code differs beyond the seed."""
    first = rows[0]
    for other in rows[1:]:
        if other.config_hash != first.config_hash:
            own, its = ({k: v for k, v in r.config.items() if k not in NOT_THE_ENTRY} for r in (first, other))
            keys = [item.key for item in differences(own, its) if item.group != "derived"]
            raise UserError(
                f"{first.folder} and {other.folder} are not seeds of one entry: {', '.join(keys[:4])} differ"
                f"{'' if len(keys) < 5 else f' and {len(keys) - 4} more'}; type them as two entries, or add --despite"
            )
        if other.code_hash != first.code_hash:
            files = sorted(n for n in {*first.sources, *other.sources} if first.sources.get(n) != other.sources.get(n))
            raise UserError(
                f"{first.folder} and {other.folder} ran different code: {', '.join(files[:4])}"
                f"{'' if len(files) < 5 else f' and {len(files) - 4} more files'}; repeat one, or add --despite"
            )


def _published(found: Published) -> Entry:
    scores = [
        Score(
            seed, s["bpb"], s.get("nats_per_token"), total_bytes=_whole(s.get("total_bytes")), step_ms=s.get("step_ms")
        )
        for seed, s in found.seeds.items()
    ]
    if not scores:
        raise UserError(f"{found.label}: no scores of single seeds were published, only {found.bpb}")
    return Entry(found.label, scores, "published", published=True)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _submission(folder: Path) -> Entry:
    """The seeds that a submission.json claims."""
    from golf.rules.size_rules import seed_results

    try:
        claims = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/submission.json cannot be read ({error}): restore it") from error
    found: dict[Any, dict[str, Any]] = dict(seed_results(claims))
    scores = [
        Score(str(seed), float(result["val_bpb"]), result.get("val_loss"), total_bytes=result.get("bytes_total"))
        for seed, result in found.items()
        if isinstance(result.get("val_bpb"), int | float)
    ]
    if not scores:
        raise UserError(f"{folder}/submission.json claims no val_bpb for single seeds (seed_results); type {FORMS}")
    return Entry(folder.name, scores, "claimed", published=True)
