"""A technique is one Python file and one YAML: a toy MLP, written here into an empty folder, trains, exports and scores
without a change to anything else, and its exported file runs without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = '''"""A toy: the square of a sine between two matrices."""

from typing import Any

import torch
from torch import Tensor, nn

from golf.models.layers import Linear


class SineSquared(nn.Module):
    """[B, T, D] -> [B, T, D]; `speed` is the factor inside the sine."""

    def __init__(self, width: int, hidden: int, speed: float = 1.0):
        super().__init__()
        self.speed = speed
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        return self.proj(torch.sin(self.speed * self.fc(x_BTD, context)) ** 2, context)
'''
OPTION = """# python train.py model/mlp=sine2 model.mlp.speed=2
# A toy MLP.
_target_: toy_technique.SineSquared
_partial_: true
speed: 1.5
"""


def test_one_file_and_one_yaml_are_enough(tmp_path: Path) -> None:
    (tmp_path / "toy_technique.py").write_text(CODE)
    option = tmp_path / "conf" / "model" / "mlp" / "sine2.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION)
    run = tmp_path / "run"
    command = [
        *(sys.executable, str(ROOT / "train.py"), "--config-dir", str(tmp_path / "conf"), "experiment=smoke"),
        *("model/mlp=sine2", "model.mlp.speed=2", f"hydra.run.dir={run}", "hardware.threads=1"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, check=True, env=environment, capture_output=True)
    summary = json.loads((run / "summary.json").read_text())
    assert [rung["stage"] for rung in summary["ladder"]] == ["raw", "averaged", "quantised", "sliding"]
    code = (run / "submission" / "default" / "train_gpt.py").read_text()
    assert "class SineSquared" in code
    assert "toy_technique" not in code.replace("---- toy_technique", "").replace('"toy_technique.SineSquared"', "")
    from golf.submission.verify import verify_submission

    artifact = run / "artifact" / "default" / "model.golf"
    found = verify_submission(run / "submission" / "default" / "train_gpt.py", artifact, run, k=3)
    assert found["bit_equal"]
