"""Writes folders of finished runs for the tests of reports over several runs: a sweep, single runs, official scores."""

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import yaml
import zstandard

from golf.pipeline.run_folder import RUN_VERSION

OFFICIAL_TOKENS, OFFICIAL_BYTES = 62_021_846, 151_080_363
ENTRIES = (
    ("seq2048", 1.1912, 15_870_112, None),
    ("wide_mlp_with_a_long_name", 1.1874, 15_990_340, "seq2048"),
    ("int6_embedding", 1.1935, 15_210_007, "seq2048"),
    ("no_average", 1.1990, 15_871_920, "seq2048"),
)
WOBBLE = {1: 0.0, 2: 0.0011, 3: -0.0007}


def snapshot(text: bytes) -> bytes:
    """A source.tar.zst of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("golf/loop.py")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return zstandard.ZstdCompressor().compress(buffer.getvalue())


def finished(folder: Path, name: str, seed: int, bpb: float, size: int, **given: Any) -> Path:
    """A run as far as several runs are compared: configuration, overrides, code, summary."""
    folder.mkdir(parents=True)
    tokens, text = given.get("tokens", OFFICIAL_TOKENS), given.get("text_bytes", OFFICIAL_BYTES)
    config = {"run_version": RUN_VERSION, "name": name, "seed": seed, "objective": "sliding", "ablate": None}
    config |= {"parent": given.get("parent"), "model": {"is": name}}
    score = {"nats_per_token": bpb * math.log(2) * text / tokens, "tokens": tokens, "bytes": text, "bpb": bpb}
    ladder = [
        {"stage": "raw", **score, "bpb": bpb + 0.02, "seconds": 20.0},
        {"stage": "sliding", **score, "seconds": 80},
    ]
    summary = {
        **{"schema": 1, "name": name, "seed": seed, "ladder": ladder, "total_bytes": size, "train_seconds": 599.8},
        **{"steps": 11_000 + seed, "step_ms_p50": 54.2 + seed / 10, "parameters": 17_059_912, "hardware": "8 x H100"},
        "rules": {"profile": "strict", "failed": given.get("failed", [])},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overrides.yaml").write_text(yaml.safe_dump([f"experiment={name}", f"seed={seed}"]))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "environment.json").write_text(json.dumps({"time": f"2026-11-22T10:{seed % 60:02d}:00+00:00"}))
    (folder / "source.tar.zst").write_bytes(snapshot(given.get("source", b"0")))
    return folder


def write_sweep(folder: Path, entries: Any = ENTRIES) -> Path:
    """A multirun of entries × three seeds, its last job failed."""
    job = 0
    for name, bpb, size, parent in entries:
        for seed, wobble in WOBBLE.items():
            place = finished(folder / str(job), name, seed, bpb + wobble, size + 10 * seed, parent=parent)
            record = {"job": job, "overrides": [f"experiment={name}", f"seed={seed}"], "state": "done", "exit_code": 0}
            record |= {"objective": bpb + wobble, "objective_name": "sliding", "bytes": size + 10 * seed, "error": ""}
            (place / "job.json").write_text(json.dumps({**record, "seconds": 700.0 + job, "place": None}))
            job += 1
    (folder / str(job)).mkdir(parents=True)
    record = {"job": job, "overrides": ["experiment=broken", "seed=1"], "state": "failed", "exit_code": 2}
    record |= {"objective": None, "bytes": None, "error": "UserError: <b>no</b>", "seconds": 1.5, "place": None}
    (folder / str(job) / "job.json").write_text(json.dumps(record))
    (folder / "multirun.yaml").write_text("hydra: {}\n")
    return folder
