"""Writes run folders for the tests of the report: complete, long, several exports, hostile names."""

import json
import math
import random
from pathlib import Path
from typing import Any

CLASSES = {
    "mlp": 1_212_416,
    "attention": 818_304,
    "embedding": 251_921,
    "scales": 21_504,
    "scalars": 9_728,
    "metadata": 3_187,
    "code": 38_912,
}


def rung(stage: str, nats: float, protocol: str, seconds: float) -> dict[str, Any]:
    """Return one rung of a ladder over 108,233 tokens that stand for 247,851 bytes."""
    tokens, size = 108_233, 247_851
    return {
        "stage": stage,
        "nats_per_token": nats,
        "bpb": nats / math.log(2) * tokens / size,
        "tokens": tokens,
        "bytes": size,
        "seconds": seconds,
        "source_sha256": "ab" * 32,
        "protocol": protocol,
        "coverage": {"scored": tokens, "never_scored": 0, "scored_twice": 0},
    }


def summary_of(name: str = "demo", exports: bool = False) -> dict[str, Any]:
    """Return a summary as a finished run writes it."""
    total = sum(CLASSES.values())
    ladder = [
        rung("raw", 2.9911, "contiguous", 6.1),
        rung("averaged", 2.9642, "contiguous", 6.0),
        rung("quantised", 2.9688, "contiguous", 6.2),
        rung("sliding", 2.9121, "sliding, stride 64, exact tail", 48.4),
    ]
    summary: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "seed": 1337,
        "ladder": ladder,
        "artifact_bytes": total - CLASSES["code"],
        "code_bytes": CLASSES["code"],
        "total_bytes": total,
        "limit_bytes": 16_000_000,
        "parameters": 2_361_888,
        "steps": 1_180,
        "train_seconds": 119.7,
        "tokens_per_second": 40_412.0,
        "step_ms_p50": 100.9,
        "step_ms_p99": 118.2,
        "flops": 6.7e14,
        "mfu": None,
        "joules": None,
        "hardware": "2 × CPU, x86_64",
        "rules": None,
        "bytes_by_class": CLASSES,
        "exports": {},
    }
    if exports:
        small = {key: value // 2 for key, value in CLASSES.items()}
        summary["exports"] = {
            "default": {"ladder": ladder[2:], "total_bytes": total, "bytes_by_class": CLASSES},
            "int6": {
                "ladder": [rung("quantised", 3.0102, "contiguous", 6.3), rung("sliding", 2.9534, "sliding", 48.9)],
                "total_bytes": sum(small.values()),
                "bytes_by_class": small,
            },
        }
    return summary


FIT = {
    "target_bytes": 15_980_000,
    "fits": True,
    "scored_on": "last 65,536 targets of the training split, contiguous windows of 1,024 tokens",
    "rungs": [
        {"rung": "as asked", "total_bytes": 16_123_456, "relative_mse": 2e-4, "bpb": 1.8346, "delta_bpb": 0.0},
        {
            **{"rung": "clip", "change": "clips x 1.0375", "total_bytes": 15_979_001},
            **{"relative_mse": 2.2e-4, "bpb": 1.8349, "delta_bpb": 0.0003},
        },
    ],
}


def sensitivity() -> dict[str, Any]:
    """Return the table of sensitivities of a quantised network of six blocks."""
    lines = []
    for place in range(24):
        name = f"blocks.{place // 4}.{('attn.c_q', 'attn.proj', 'mlp.fc', 'mlp.proj')[place % 4]}.weight"
        harm = 4e-4 * math.exp(-place / 6)
        lines.append(
            {
                **{"name": name, "kind": "codes", "elements": 36_864, "mse": harm / 50, "relative_mse": harm},
                **{"hessian_error": harm * 3, "relative_hessian_error": harm / 2, "clipped": 1e-3},
                **{"entropy_bits": 4.9, "bytes": 22_964, "payload_bytes": 37_248, "delta_bpb": harm - 2e-5},
            }
        )
    return {"scored_on": FIT["scored_on"], "bpb": 1.8321, "delta_bpb": 0.0025, "tensors": lines, "notes": []}


def breakdown(stage: str, bpb: float) -> dict[str, Any]:
    """Return the scores of one rung by bin, as golf.evaluation.breakdown writes them."""
    bins = [{"from": 2**power, "targets": 900, "bytes": 2000, "bpb": bpb + 0.4 / (power + 1)} for power in range(11)]
    shards = [{"name": f"fineweb_val_00000{i}.bin", "targets": 54_000, "bytes": 123_900, "bpb": bpb} for i in range(2)]
    return {"stage": stage, "bpb": bpb, "context": bins, "document_position": bins, "document_length": bins} | {
        "shard": shards
    }


def rules() -> dict[str, Any]:
    """Return a rules.json with one rule of each outcome."""
    told = (
        ("L7", "every validation token exactly once", "pass", "108,233 targets scored, each once", "", "record"),
        ("L17", "calibration on training data only", "not applicable", "quantisation reads no data", "", ""),
        ("L22", "training within 600 s", "cannot tell", "on 2 x CPU", "measure it on 8 x H100 SXM", ""),
        ("L28", "16,000,000 bytes with code", "fail", "17,000,000 bytes", "train a smaller model", "record"),
    )
    keys = ("id", "title", "outcome", "reason", "remedy", "how")
    return {"profile": "strict", "rules": [{**dict(zip(keys, row)), "counted": True} for row in told]}


def metric_lines(steps: int, every: int = 1, validate_every: int = 100) -> list[str]:
    """Return the lines of metrics.jsonl of a run of so many steps."""
    noise = random.Random(7)
    lines = []
    for step in range(every, steps + 1, every):
        progress = step / steps
        loss = 2.85 + 4.1 * math.exp(-9 * progress) + 0.6 * math.exp(-2.2 * progress)
        step_ms = 100 * (1 + abs(noise.gauss(0, 0.04))) + (900 if step == every else 0)
        row = {
            "step": step,
            "seconds": round(0.1012 * step, 3),
            "tokens": 4096 * step,
            "train/loss": loss + noise.gauss(0, 0.05),
            "lr": min(1.0, (1 - progress) / 0.3),
            "momentum": 0.95,
            "tokens_per_second": 4096e3 / step_ms,
            "step_ms": step_ms,
        }
        lines.append(json.dumps(row))
        if step % validate_every == 0:
            row = {"step": step, "seconds": row["seconds"], "tokens": row["tokens"]}
            lines.append(json.dumps({**row, "val/loss": loss + 0.04, "val/bpb": (loss + 0.04) / math.log(2) / 2.29}))
    return lines


def write_run(folder: Path, steps: int = 1_180, every: int = 5, name: str = "demo", exports: bool = False) -> Path:
    """Write a complete run folder and return it."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary_of(name, exports)))
    (folder / "metrics.jsonl").write_text("\n".join(metric_lines(steps, every)) + "\n")
    (folder / "command.txt").write_text(f"python train.py experiment=demo seed=1337 'name={name}'\n")
    (folder / "overrides.yaml").write_text("- experiment=demo\n- seed=1337\n")
    (folder / "config.yaml").write_text(
        f"# resolved\nname: '{name}'\nseed: 1337\nmodel:\n  _target_: golf.models.gpt.GPT\n"
        "  num_layers: 6\n  width: 192\n"
        "quant:\n  _target_: golf.quant.plan.QuantPlan\n  matrix: int8\n"
        "budget:\n  max_seconds: 120.0 # of training clock\n  max_steps: 0\n  evaluation_seconds: 600.0\n"
    )
    (folder / "environment.json").write_text(
        json.dumps({"python": "3.11.2", "torch": "2.13.0+cpu", "cpu": {"name": "x86_64", "cores": 2}, "gpus": []})
    )
    live = [
        {"technique": "optim.muon (role=matrix)", "alive": True, "moved": 24, "tensors": 24, "unmoved": []},
        {"technique": "schedule.lr (Trapezoid)", "alive": False, "first": 1.0, "last": 1.0},
        {"technique": "average (Ema)", "alive": True, "tensors_differing": 41, "tensors": 41},
    ]
    (folder / "liveness.json").write_text(json.dumps({"schema": 1, "techniques": live}))
    times = {
        "train": 121.9,
        "average": 0.2,
        "calibrate": 0.0,
        "quantise": 0.6,
        "pack": 1.9,
        "verify": 8.8,
        "score": 55.3,
    }
    for stage, seconds in times.items():
        place = folder / "stages" / stage
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps({"stage": stage, "seconds": seconds, "status": "done"}))
    scores = folder / "stages" / "score" / "scores"
    scores.mkdir()
    for stage, bpb in (("raw", 1.8844), ("sliding", 1.8346)):
        (scores / f"{stage}.json").write_text(json.dumps(breakdown(stage, bpb)))
    (folder / "rules.json").write_text(json.dumps(rules()))
    (folder / "artifact" / "default").mkdir(parents=True)
    (folder / "artifact" / "default" / "model.golf").write_bytes(b"GOLF" + bytes(5000))
    (folder / "artifact" / "default" / "sensitivity.json").write_text(json.dumps(sensitivity()))
    (folder / "artifact" / "default" / "fit.json").write_text(json.dumps(FIT))
    return folder
