"""What one training run says of itself, from golf's own records or from a foreign log.

Foreign logs print their own source first, label the same number in hundreds of ways and write it more than once. Only
numbers that follow a label directly count (a template has a brace there), and the last one of a kind is the result.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NUMBER = r"([0-9][0-9_,]*(?:\.[0-9]+)?(?:e-?[0-9]+)?)"
PACKING = "(?:int|quant|zlib|zstd|brotli|lzma)"
IS, AND = r"\s*[:=]\s*", r"[\s,;|]+"  # between a name and its number, and between two of them
SCORE = re.compile(rf"^(?P<label>.*?)\bval_loss{IS}{NUMBER}{AND}val_bpb{IS}{NUMBER}(?P<rest>.*)$", re.M)
SCORE_TURNED = re.compile(rf"^(?P<label>.*?)\bval_bpb{IS}{NUMBER}{AND}val_loss{IS}{NUMBER}(?P<rest>.*)$", re.M)
STEP_LABEL = re.compile(r"^\W*(?:(?:step|iter)[:= ]*)?([0-9]+)(?:/[0-9]+)?\W*$")
PATTERNS: dict[str, str] = {
    "train_ms": rf"stopping_early:.*?train_time:\s*{NUMBER}\s*ms",
    "train_s": rf"stopping_early:.*?train_time:\s*{NUMBER}\s*s\b",
    "train_ms_last": rf"^\W*(?:step[: ]\s*)?[0-9]+(?:/[0-9]+)?\b.*train_time{IS}{NUMBER}\s*ms",
    "train_s_last": rf"^\W*(?:step[: ]\s*)?[0-9]+(?:/[0-9]+)?\b.*train_time{IS}{NUMBER}\s*s\b",
    "total_bytes": rf"^(?i:total (?:submission )?(?:size|bytes))[^:\n]*:\s*{NUMBER}\b",
    "code_bytes": rf"^Code size(?! \(uncompressed\))[^:\n]*:\s*{NUMBER}\s*bytes",
    "code_bytes_raw": rf"^Code size \(uncompressed\)[^:\n]*:\s*{NUMBER}\s*bytes",
    "artifact_bytes": rf"^(?i:serialized[ _]model[ _])[^:\n]*{PACKING}[^:\n]*:\s*{NUMBER}\s*bytes",
    "val_tokens": rf"\bval_tokens{IS}{NUMBER}|^val_loader:.*?\btokens:\s*{NUMBER}",
    "train_shards": rf"\btrain_shards{IS}{NUMBER}",
    "world_size": rf"\bworld_size{IS}{NUMBER}",
    "vocab_size": rf"(?:^|\s)vocab_size{IS}{NUMBER}",
    "seed": rf"(?:^|\s)seed{IS}{NUMBER}",
    "eval_seconds": rf"total_eval_time:\s*{NUMBER}\s*s\b",
    "calibration_seconds": rf"collected [0-9]+ Hessians in\s*{NUMBER}\s*s",
    "precompute_seconds": rf"precompute_done elapsed=\s*{NUMBER}\s*s",
    "ttt_epochs": rf"^\s*(?:global_)?ttt_epochs:\s*{NUMBER}",
}
TEXT_PATTERNS = {
    "warms_up_on_random_tokens": r"random tokens, no val data",
    "adapts": r"^(?:ttt\w*:|tttp+:|ttp:|tttg:|beginning TTT)|\bttt_sliding:",
    "precompute_outside": r"precompute_outside:\s*True",
    "eval_timer": r"beginning TTT eval timer",
    "h100": r"\bH100\b",
}

CLOCKS = {"train_ms": 1000.0, "train_s": 1.0, "train_ms_last": 1000.0, "train_s_last": 1.0}
SETTING = re.compile(r"^ {2,}([a-z][a-z_0-9]*): (\S.*)$", re.M)
OF_A_RUN = ("seed", "run_id", "logfile", "rank", "local_rank", "artifact_dir")  # settings that may differ between seeds


@dataclass(frozen=True)
class LoggedScore:
    """One (loss, BPB) pair of a log with its label; `step` for those of training."""

    label: str
    loss: float
    bpb: float
    step: int | None = None
    seconds: float | None = None


@dataclass
class Facts:
    """One seed's run. None: not known."""

    where: str
    scores: list[LoggedScore] = field(default_factory=list)
    seed: int | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None
    calibration_seconds: float | None = None  # collecting statistics for the quantiser, after the last step
    calibration_source: str | None = None
    calibration_on_clock: bool | None = None  # whether it reads training data, so that its seconds are training
    packing_seconds: float | None = None
    precompute_seconds: float | None = None
    precompute_outside: bool = False
    artifact_bytes: int | None = None
    code_bytes: int | None = None
    code_bytes_raw: int | None = None
    total_bytes: int | None = None
    val_tokens: int | None = None
    val_bytes: int | None = None
    train_shards: int | None = None
    vocab_size: int | None = None
    world_size: int | None = None
    on_eight_h100: bool | None = None
    hardware: str = ""
    adapts: bool | None = None
    ttt_epochs: int | None = None
    warms_up_on_random_tokens: bool = False
    config_hash: str | None = None
    code_hash: str | None = None

    @property
    def final(self) -> LoggedScore | None:
        """The last score that is not one of training."""
        after = [score for score in self.scores if score.step is None]
        return after[-1] if after else (self.scores[-1] if self.scores else None)

    @property
    def step_zero(self) -> LoggedScore | None:
        return next((score for score in self.scores if score.step == 0), None)


def number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def facts_from_log(text: str, where: str) -> Facts:
    """Everything that can be read from a training log."""
    found: dict[str, float] = {}
    for name, pattern in PATTERNS.items():
        for match in re.finditer(pattern, text, re.M):
            found[name] = number(next(group for group in match.groups() if group))
    said = {name: re.search(pattern, text, re.M) is not None for name, pattern in TEXT_PATTERNS.items()}
    whole = [found[name] / unit for name, unit in CLOCKS.items() if name in found]  # minutes are too coarse to judge
    facts = Facts(where, _scores(text))
    for name in (
        "artifact_bytes",
        "code_bytes",
        "code_bytes_raw",
        "total_bytes",
        "val_tokens",
        "train_shards",
        "vocab_size",
        "world_size",
        "seed",
        "ttt_epochs",
    ):
        if name in found:
            setattr(facts, name, int(found[name]))
    facts.train_seconds = whole[0] if whole else None
    facts.calibration_seconds = found.get("calibration_seconds")
    facts.precompute_seconds = found.get("precompute_seconds")
    facts.precompute_outside = said["precompute_outside"] or ("precompute_seconds" in found and _before_timer(text))
    facts.adapts = said["adapts"] or None
    facts.config_hash = _settings_hash(text)
    facts.warms_up_on_random_tokens = said["warms_up_on_random_tokens"]
    facts.eval_seconds = found.get("eval_seconds") or _final_eval_seconds(facts)
    facts.on_eight_h100 = True if said["h100"] and facts.world_size == 8 else None
    if facts.seed is None and (named := re.search(r"seed[_-]?([0-9]+)", Path(where).name)):
        facts.seed = int(named.group(1))
    return facts


def _settings_hash(text: str) -> str | None:
    """Hash of the settings a log lists (indented `name: value` lines), without those of one run; None without any."""
    settings = {key: value.strip() for key, value in SETTING.findall(text)}
    kept = sorted((key, value) for key, value in settings.items() if key not in OF_A_RUN and not key.endswith("_path"))
    return hashlib.sha256(repr(kept).encode()).hexdigest() if kept else None


def _scores(text: str) -> list[LoggedScore]:
    found = [(match, 2, 3) for match in SCORE.finditer(text)]
    found += [(match, 3, 2) for match in SCORE_TURNED.finditer(text)]
    scores = []
    for match, of_loss, of_bpb in sorted(found, key=lambda item: item[0].start()):
        label, rest = match.group("label").strip(), match.group("rest")
        step = STEP_LABEL.match(label)
        timed = re.search(rf"eval_time{IS}{NUMBER}\s*(ms|s)\b", rest)
        seconds = number(timed.group(1)) / (1000 if timed.group(2) == "ms" else 1) if timed else None
        loss, bpb = number(match.group(of_loss)), number(match.group(of_bpb))
        if loss > 0 and bpb > 0:
            scores.append(LoggedScore(label, loss, bpb, int(step.group(1)) if step else None, seconds))
    return scores


def _final_eval_seconds(facts: Facts) -> float | None:
    """Seconds of the reported evaluation, or of the same label's line (`…_exact` repeats a score without a time)."""
    if (final := facts.final) is None:
        return None
    stem = final.label.removesuffix("_exact")
    timed = [s for s in facts.scores if s.seconds is not None and s.label.removesuffix("_exact") == stem]
    return timed[-1].seconds if timed else None


def _before_timer(text: str) -> bool:
    """Whether hints for evaluation were computed before its clock was started."""
    work, timer = text.find("precompute_done"), text.find("eval timer")
    return -1 < work < timer


def facts_from_run(summary: dict[str, Any], stages: dict[str, dict[str, Any]], where: str) -> Facts:
    """Facts of golf's own run: summary.json and the stages' manifests."""
    facts = Facts(where, seed=summary.get("seed"))
    for entry in summary.get("ladder", []):
        if entry.get("bpb") is not None:
            seconds = entry.get("seconds")
            seconds = sum(seconds.values()) if isinstance(seconds, dict) else seconds
            facts.scores.append(LoggedScore(entry["stage"], entry["nats_per_token"], entry["bpb"], None, seconds))
            facts.val_tokens, facts.val_bytes = entry.get("tokens"), entry.get("bytes")
    for name in ("artifact_bytes", "code_bytes", "total_bytes", "train_seconds"):
        setattr(facts, name, summary.get(name))
    facts.hardware = str(summary.get("hardware") or "")
    facts.on_eight_h100 = "H100" in facts.hardware and _devices(summary.get("hardware")) == 8
    if "score" in stages:
        facts.eval_seconds = stages["score"].get("seconds")
    calibrated = (stages.get("calibrate") or {}).get("result") or {}
    if calibrated:
        facts.calibration_source = calibrated.get("source") or "nothing"
        facts.calibration_seconds = calibrated.get("calibration_seconds", 0.0)
        facts.calibration_on_clock = bool(calibrated.get("on_training_clock"))
    times = [stages[name]["seconds"] for name in ("quantise", "pack") if name in stages]
    facts.packing_seconds = float(sum(times)) if times else None
    return facts


def _devices(hardware: Any) -> int | None:
    if isinstance(hardware, dict):
        return hardware.get("devices")
    match = re.match(r"\s*([0-9]+)\s*[x×]", str(hardware or ""))
    return int(match.group(1)) if match else None
