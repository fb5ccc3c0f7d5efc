"""Conformance of what happens to tokens: byte accounting, evaluation windows, learning-rate rules.

Everything here is exact (integers), but for learning-rate multipliers (1e-12). The files say which script a result
comes from; the tables below say which option of golf claims to do the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from golf.errors import UserError
from golf.interop.conform_loaders import check_loaders
from golf.interop.conform_result import Check, exact, measured, unsupported

LEARNING_RATE_TOLERANCE = 1e-12

# Date of a script -> how its sliding windows treat the end of the stream.
SLIDING_TAIL_BY_DATE = {
    "2026-03-19": "rescored",
    "2026-03-20": "rescored",
    "2026-03-22": "rescored",
    "2026-03-24": "dropped",
    "2026-04-05": "exact",
    "2026-04-09": "exact",
}


@lru_cache(maxsize=8)
def tokenizers_by_sha256(data: str) -> dict[str, Path]:
    """Every SentencePiece model file under a folder, by the sha256 of its bytes (never by its name)."""
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(Path(data).rglob("*.model"))}


def find_tokenizer(data: Path | None, sha256: str) -> Path | None:
    return tokenizers_by_sha256(str(data)).get(sha256) if data is not None else None


def missing_tokenizer(sha256: str, data: Path | None) -> str:
    where = f"under {data}" if data is not None else "at hand: name a folder with --data or GOLF_DATA"
    return f"no tokenizer with sha256 {sha256[:12]}… {where}"


def check_byte_accounting(path: Path, data: Path | None) -> list[Check]:
    """Per-token tables and the bytes of id sequences, for every tokenizer that is at hand."""
    from safetensors.numpy import load_file

    from golf.data.bytes import byte_table_from_sentencepiece

    spec = json.loads(path.read_text(encoding="utf-8"))
    tables = load_file(str(path.with_suffix(".safetensors")))
    results: list[Check] = []
    for name, entry in spec["tokenizers"].items():
        model_file = find_tokenizer(data, entry["sha256"])
        if model_file is None:
            results.append(unsupported(path.stem, name, "tables", missing_tokenizer(entry["sha256"], data)))
            continue
        table = byte_table_from_sentencepiece(model_file)
        for quantity in ("base_bytes", "leading_space", "boundary"):
            ours, expected = np.asarray(getattr(table, quantity)), tables[f"{name}.{quantity}"]
            wrong = ours.size if ours.shape != expected.shape else int((ours.astype(np.int64) != expected).sum())
            results.append(measured(path.stem, name, f"{quantity}_differing", wrong, 0))
        for sequence in entry["sequences"]:
            ids = np.asarray(sequence["ids"], dtype=np.int64)
            ours = int(table.count(ids[:-1], ids[1:]).sum())
            error = abs(ours - sequence["bytes"])
            results.append(measured(path.stem, name, "sequence_bytes", error, 0, sequence["label"][:60]))
    return results


def check_eval_data(path: Path, data: Path | None) -> list[Check]:
    """Windows, schedules and loaders of one eval_data file; the parts it does not have are not missed."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    vector = path.stem
    results: list[Check] = []
    for entry in spec.get("sliding", []):
        results.append(check_windows(vector, entry))
    for entry in spec.get("lr", []):
        results.append(check_learning_rate(vector, entry))
    for entry in spec.get("val_truncation", []):
        results.append(check_truncation(vector, entry))
    if "muon_momentum_warmup" in spec:
        results.append(check_momentum(vector, spec["muon_momentum_warmup"]))
    return results + check_loaders(vector, spec)


def check_windows(vector: str, entry: Mapping[str, Any]) -> Check:
    """Window starts per rank, scored targets per window, and the coverage that follows from them."""
    from golf.evaluation.ledger import Ledger
    from golf.evaluation.sliding import Sliding
    from golf.evaluation.split import validation_tokens
    from golf.evaluation.windows import rank_share

    length, stride, world = entry["seq_len"], entry["stride"], entry["world"]
    case = f"sliding {entry['script']} n={entry['n_tokens']} T={length} s={stride} W={world}"
    tail = SLIDING_TAIL_BY_DATE.get(entry["script"][:10])
    if tail is None:
        return unsupported(vector, case, "windows", f"windows of {entry['script']}")
    evaluator = Sliding(length, stride, tail)
    windows = list(evaluator.windows(entry["n_tokens"]))
    if "not_supported" in entry:
        refused = not windows
        try:
            validation_tokens(np.zeros(entry["n_tokens"], np.uint16), length)
        except UserError:
            refused = True
        return exact(vector, case, "refused", refused, True)
    by_rank = [list(rank_share(windows, r, world, evaluator.interleaved)) for r in range(world)]
    ordered = [w for share in by_rank for w in share]
    ledger = Ledger(entry["n_tokens"] - 1, evaluator.rescoring)
    for w in sorted(ordered):
        ledger.record(w.start + 1 + w.first_scored, np.zeros(w.length - w.first_scored))
    never = (np.flatnonzero(ledger.times_N == 0) + 1).tolist()
    ours = {
        "starts": [[w.start for w in share] for share in by_rank],
        "ranges": [[w.start + 1 + w.first_scored, w.start + w.length] for w in ordered],
        "total": int(ledger.times_N.sum()),
        "twice": ledger.coverage().scored_twice,
        "never": never,
    }
    expected = {
        "starts": entry["window_starts_by_rank"],
        "ranges": entry["scored_target_ranges_inclusive"],
        "total": entry["total_scored"],
        "twice": entry["targets_scored_more_than_once"],
        "never": entry["targets_never_scored"],
    }
    different = [key for key in expected if ours[key] != expected[key]]
    detail = f"{different[0]}: {ours[different[0]]}"[:120] if different else ""
    return exact(vector, case, "windows", ours, expected, detail)


def check_learning_rate(vector: str, entry: Mapping[str, Any]) -> Check:
    """Multipliers at given steps and times. The schedule follows from the settings' names."""
    from golf.optim.schedules import WarmdownFraction, WarmdownSteps
    from golf.progress import Progress

    settings = entry["settings"]
    fraction = settings.get("warmdown_frac", settings.get("warmdown_fraction"))
    if fraction is not None:
        schedule = WarmdownFraction(fraction, settings.get("min_lr", 0.0))
    elif "warmdown_iters" in settings:
        schedule = WarmdownSteps(settings["warmdown_iters"])
    else:
        return unsupported(vector, f"lr {entry['tag']}", "multiplier", f"schedule with settings {sorted(settings)}")
    limit_ms, worst, where = entry["max_wallclock_ms"], 0.0, ""
    for step, elapsed_ms, _, expected in entry["values"]:
        limits = {"max_seconds": limit_ms / 1e3} if limit_ms else {"max_steps": settings["iterations"]}
        error = abs(schedule(Progress(step=step, seconds=elapsed_ms / 1e3, **limits)) - expected)
        if error >= worst:
            worst, where = error, f"worst at step {step}"
    return measured(vector, f"lr {entry['tag']}", "multiplier", worst, LEARNING_RATE_TOLERANCE, where)


def check_truncation(vector: str, entry: Mapping[str, Any]) -> Check:
    from golf.evaluation.split import validation_tokens

    count, length = entry["tokens_in_file"], entry["seq_len"]
    kept = len(validation_tokens(np.zeros(count, np.uint16), length))
    return exact(vector, f"val_truncation n={count} T={length}", "tokens_kept", kept, entry["tokens_kept"])


def check_momentum(vector: str, entry: Mapping[str, Any]) -> Check:
    """A linear ramp; its ends and length are read off the examples (first and last value, first step at the end)."""
    from golf.optim.schedules import LinearRamp
    from golf.progress import Progress

    examples = entry["examples"]
    start, end = examples[0][1], examples[-1][1]
    steps = min(step for step, value in examples if value == end)
    ramp = LinearRamp(start, end, steps)
    worst = max(abs(ramp(Progress(step=step)) - value) for step, value in examples)
    return measured(vector, "muon_momentum_warmup", "momentum", worst, LEARNING_RATE_TOLERANCE)
