"""The bug museum, part two: logs and submission folders as people hand them in, whole or with one fault."""

from __future__ import annotations

import json
from pathlib import Path

SCRIPT = "import torch\nimport numpy as np\nimport sentencepiece\nprint(torch, np, sentencepiece)\n"
MODEL_BYTES = 15_800_000

LOG = """import torch
log0(f"final_int8_zlib_roundtrip val_loss:{{q_val_loss:.4f}} val_bpb:{{q_val_bpb:.4f}} eval_time:{{1000.0 * t:.0f}}ms")
log0(f"Total submission size int8+zlib: {{quant_file_bytes + code_bytes}} bytes")
====================================================================================================
Running Python 3.12.3 on NVIDIA H100 80GB HBM3
  vocab_size: 1024
  matrix_lr: {matrix_lr}
  seed: {seed}
val_loader:shards pattern=fineweb_val_*.bin tokens:{val_tokens}
train_shards: {train_shards}
world_size:8 grad_accum_steps:1
step:0/20000 val_loss:6.9357 val_bpb:{zero_bpb} train_time:0ms step_avg:0.02ms
step:13780/20000 val_loss:2.0606 val_bpb:1.2204 train_time:{train_ms}ms step_avg:43.54ms
stopping_early: wallclock_cap train_time:{train_ms}ms step:13780/20000
Serialized model: 67224983 bytes
Code size: {code_bytes} bytes
Serialized model int8+zlib: {model_bytes} bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)
Total submission size int8+zlib: {total_bytes} bytes
GPTQ:collected 67 Hessians in {calibration}s
final_int8_zlib_roundtrip val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:{eval_ms}ms
final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}
"""


def log_text(**changes: object) -> str:
    """A log of the kind that is handed in: its own source first, a step-0 line, sizes, the final score."""
    fields: dict[str, object] = {
        "matrix_lr": 0.04, "seed": 1337, "val_tokens": 62_021_632, "train_shards": 80, "zero_bpb": 4.1077,
        "train_ms": 598_000, "code_bytes": len(SCRIPT), "model_bytes": MODEL_BYTES, "calibration": 1.5,
        "loss": 2.03860961, "bpb": 1.20737944, "eval_ms": 70_000,
    }  # fmt: skip
    fields |= changes
    fields.setdefault("total_bytes", int(str(fields["model_bytes"])) + int(str(fields["code_bytes"])))
    return LOG.format(**fields)


def write_entry(folder: Path, logs: dict[int, dict[str, object]] | None = None, **claims: object) -> Path:
    """A submission folder of three seeds; `logs` changes a seed's log, `claims` submission.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_gpt.py").write_text(SCRIPT)
    (folder / "README.md").write_text("# An entry\n")
    scores = {1337: (2.03860961, 1.20737944), 42: (2.03861, 1.2073797), 7: (2.0385, 1.20731453)}
    for seed, (loss, bpb) in scores.items():
        changes = {"seed": seed, "loss": loss, "bpb": bpb, **(logs or {}).get(seed, {})}
        (folder / f"train_seed{seed}.log").write_text(log_text(**changes))
    content = {
        "name": "An entry",
        "author": "somebody",
        "val_bpb": 1.20736,
        "bytes_total": MODEL_BYTES + len(SCRIPT),
        "bytes_code": len(SCRIPT),
        "seeds": list(scores),
        **claims,
    }
    (folder / "submission.json").write_text(json.dumps(content))
    return folder
