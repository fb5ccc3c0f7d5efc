"""Every technique that is switched on says in liveness.json when it began and that it changes something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = (
    *("model/depth=loop", "model.num_layers=5", "model.depth.first=1", "model.depth.last=2", "model/skips=gated"),
    *("model/xsa=exclusive", "model/gate=sparse", "model/smear=input_gate", "model/lanes=parallel"),
    *("model.lanes.start=3", "qat=late", "qat.at=0.5", "quant=int6_rows", "quant.small_numel=0", "through=train"),
)


def test_liveness_of_techniques_that_begin_during_training(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "experiment=smoke", f"hydra.run.dir={tmp_path}/run", *OVERRIDES]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=_environment())
    found = {t["technique"]: t for t in json.loads((tmp_path / "run/liveness.json").read_text())["techniques"]}
    for technique in ("smear (InputSmearGate)", "lanes (ParallelLanes)", "xsa (ExclusiveSelfAttention)"):
        assert found[f"model.{technique}"]["alive"], technique
    assert found["model.gate (HeadGate)"]["largest_logit_change"] > 1e-6
    assert found["model.depth (last phase)"]["since"]["step"] == 10
    assert found["model.depth (phase 1)"]["alive"]
    assert found["qat"]["since"]["step"] == 10
    assert found["qat"]["loss_change_at_switch"] > 0


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}
