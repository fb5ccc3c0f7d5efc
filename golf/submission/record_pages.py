"""The texts of a record folder: README, log per seed, requirements and launch script. Facts only, from the runs."""

from __future__ import annotations

import ast
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golf.submission.record import SeedResult

PACKAGES = {"zstandard": "zstandard", "brotli": "brotli", "zpaq": "zpaq", "flash_attn_interface": "flash-attn-3"}
DIFFERENCES_SHOWN = 60


def log_text(result: SeedResult, code_bytes: int) -> str:
    """A training log in the challenge's wording, written from the run's metrics and stage records."""
    summary = result.row.summary
    lines = [
        f"log of golf run {result.row.folder.name}, written from its metrics.jsonl and stage records",
        f"seed: {result.seed}",
        f"hardware: {summary.get('hardware')}",
        f"world_size: {result.row.config['hardware'].get('devices', 1)}",
        f"model_params:{summary.get('parameters')}",
        f"val_tokens:{result.final.get('tokens')}",
    ]
    path = result.row.folder / "metrics.jsonl"
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if text.strip():
            lines += _metric_line(json.loads(text), result.steps)
    lines.append(f"step:{result.steps}/{result.steps} training ended, train_time:{result.train_seconds * 1000:.0f}ms")
    calibrated = result.calibration
    if calibrated.get("calibration_seconds"):
        lines.append(f"collected {calibrated.get('tensors', 0)} Hessians in {calibrated['calibration_seconds']:.1f}s")
    if summary.get("peak_memory_bytes"):
        lines.append(f"peak memory allocated: {summary['peak_memory_bytes'] / 2**20:.0f} MiB")
    codec = str(result.row.config["codec"]["_target_"]).rpartition(".")[2]
    lines += [
        f"Serialized model quantised {codec}: {result.artifact_bytes} bytes",
        f"Code size: {code_bytes} bytes",
        f"Total submission size quantised {codec}: {result.artifact_bytes + code_bytes} bytes",
    ]
    for entry in result.ladder:
        name = entry["stage"] if entry is not result.final else f"final_{entry['stage']}_exact"
        score = f"val_loss:{entry['nats_per_token']:.8f} val_bpb:{entry['bpb']:.8f}"
        lines.append(f"{name} {score} eval_time:{float(entry.get('seconds') or 0) * 1000:.0f}ms")
    return "\n".join(lines) + "\n"


def _metric_line(row: dict[str, Any], steps: int) -> list[str]:
    """`step:… train_loss:…` or `step:… val_loss:…` of one logged row."""
    place = f"step:{row['step']}/{steps}"
    clock = f"train_time:{float(row.get('seconds') or 0) * 1000:.0f}ms"
    lines = []
    if "train/loss" in row:
        lines.append(f"{place} train_loss:{row['train/loss']:.6f} {clock}")
    if "val/bpb" in row and "val/loss" in row:
        lines.append(f"{place} val_loss:{row['val/loss']:.6f} val_bpb:{row['val/bpb']:.6f} {clock}")
    return lines


def requirements_text(source: str, environment: dict[str, Any]) -> str:
    """Third-party packages that the readable file imports, with the versions of the run where they are known."""
    import importlib.metadata

    tree, names = ast.parse(source), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    versions = environment.get("packages") or {}
    lines = []
    for name in sorted(names - set(sys.stdlib_module_names) - {"", "__future__"}):
        package = PACKAGES.get(name, name)
        version = versions.get(package)
        if version is None:
            try:
                version = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                version = None
        lines.append(f"{package}=={str(version).partition('+')[0]}" if version else package)
    return "\n".join(lines) + "\n"


def run_script(config: dict[str, Any], seeds: list[int]) -> str:
    """The launch command, once per seed; data and tokenizer by the challenge's environment variables."""
    devices = int(config["hardware"].get("devices") or 1)
    start = f"torchrun --standalone --nproc_per_node={devices}" if devices > 1 else "python"
    lines = ["#!/bin/sh", "# DATA_PATH: folder with the shards; TOKENIZER_PATH: the tokenizer's file", "set -e"]
    lines += [f"SEED={seed} {start} train_gpt.py" for seed in seeds]
    return "\n".join(lines) + "\n"


def readme_text(claims: dict[str, Any], seeds: list[SeedResult], config: dict[str, Any]) -> str:
    """README.md of the folder."""
    spread = f" ± {claims['val_bpb_std']:.5f} (sample sd)" if "val_bpb_std" in claims else ""
    head = [
        f"# {claims['name']}",
        "",
        f"**{claims['val_bpb']:.5f} BPB**{spread}, {claims['val_loss']:.5f} nats per token, mean of {len(seeds)} "
        f"seed{'s' * (len(seeds) > 1)}; {claims['bytes_total']:,} bytes (code {claims['bytes_code']:,}, "
        f"model {claims['bytes_model']:,}); track {claims['track']}.",
        "",
        *([claims["blurb"], ""] if claims["blurb"] else []),
    ]
    if not claims["compliance"]["official_validation_split"]:
        told = f"{claims['golf']['val_bytes']:,} bytes of text, not the challenge's official split of 151,080,363"
        head += [f"Scored on {told}: not comparable with the leaderboard.", ""]
    return "\n".join(
        [
            *head,
            *_results(seeds, claims),
            *_what(config),
            *_how(seeds, claims),
            *_checks(claims, seeds),
            "Everything here was derived from the run folders by `export.py submission=record`; "
            "`golf audit <this folder>` derives it again and compares.",
            "",
        ]
    )


def _results(seeds: list[SeedResult], claims: dict[str, Any]) -> list[str]:
    stages = list(dict.fromkeys(entry["stage"] for result in seeds for entry in result.ladder))
    columns = ["seed", "steps", "ms/step", "train s", *(f"{stage} BPB" for stage in stages), "eval s", "model bytes"]
    columns.append("total bytes")
    lines = ["## Results", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for result in seeds:
        scores = [f"{entry['bpb']:.5f}" if (entry := result.rung(stage)) else "" for stage in stages]
        average = result.train_seconds / result.steps * 1000
        cells = [str(result.seed), f"{result.steps:,}", f"{average:.2f}", f"{result.train_seconds:.1f}", *scores]
        cells += [f"{result.eval_seconds:.1f}", f"{result.artifact_bytes:,}"]
        lines.append("| " + " | ".join([*cells, f"{result.artifact_bytes + claims['bytes_code']:,}"]) + " |")
    return [*lines, "", f"The submitted score is the last rung: {claims['golf']['protocol']}.", ""]


def _what(config: dict[str, Any]) -> list[str]:
    """What was trained: the differences from the parent, or from the baseline."""
    from golf.config.compose import compose
    from golf.runs.diff import keys_that_differ, shown

    parent = str(config.get("parent") or "baseline")
    skipped = ("name", "published", "parent", "ablate", "seed", "logger", "through", "objective", "run_version")
    skipped += ("hardware", "trainer", "callbacks")
    sides = compose("train", [f"experiment={parent}"]), config
    old, new = ({key: value for key, value in side.items() if key not in skipped} for side in sides)
    found = [item for item in keys_that_differ(new, old) if not item.key.endswith("._partial_")]
    lines = [f"## What differs from {parent}", "", f"| key | here | {parent} |", "| --- | --- | --- |"]
    for item in found[:DIFFERENCES_SHOWN]:
        lines.append(f"| `{item.key}` | {shown(item.key, item.left)} | {shown(item.key, item.right)} |")
    if len(found) > DIFFERENCES_SHOWN:
        lines.append(f"| … | {len(found) - DIFFERENCES_SHOWN} more: resolved_config.yaml | |")
    return [*lines, ""] if found else [f"Nothing differs from `{parent}` but the budget and the seeds.", ""]


def _how(seeds: list[SeedResult], claims: dict[str, Any]) -> list[str]:
    command = seeds[0].row.folder / "command.txt"
    told = command.read_text(encoding="utf-8").strip() if command.is_file() else ""
    made = [f"Made with golf by `{told}` (commit {claims['golf']['commit']})."] if told else []
    return [
        "## How to run",
        "",
        "```sh",
        "pip install -r requirements.txt",
        "DATA_PATH=<folder with the shards> TOKENIZER_PATH=<tokenizer> sh run.sh",
        "python train_gpt.py --eval-only final_model.golf   # scores the packed model of the first seed",
        "```",
        "",
        f"Hardware: {claims['hardware']}. Longest of the seeds: training {claims['wallclock_seconds']:.1f} s, "
        f"evaluation {claims['eval_time_seconds']:.1f} s.",
        *made,
        "",
    ]


def _checks(claims: dict[str, Any], seeds: list[SeedResult]) -> list[str]:
    """Compliance, and what the referee tested on the first run."""
    lines = ["## Checks", ""]
    lines += [f"- {name.replace('_', ' ')}: {'yes' if value else 'no'}" for name, value in claims["compliance"].items()]
    path = seeds[0].row.folder / "rules.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        tested = [rule for rule in found["rules"] if rule["outcome"] in ("pass", "fail")]
        failed = [f"{rule['id']} ({rule['reason']})" for rule in tested if rule["outcome"] == "fail"]
        lines.append(f"- referee, profile {found['profile']}: {len(tested)} rules tested, {len(failed)} failed")
        lines += [f"  - failed: {text}" for text in failed]
    return [*lines, ""]
