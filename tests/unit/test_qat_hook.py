"""The hook point of quantisation-aware training: attached once, told the progress before every step, on both paths."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from golf.config.build import build
from golf.config.compose import compose
from golf.loop import train
from golf.pipeline.run_folder import create_run_folder, silent
from golf.pipeline.train import train_run
from golf.training.resolve import resolve_config
from golf.training.session import open_session

STEPS = 8
OVERRIDES = [
    *("experiment=smoke", "hardware=cpu", "hardware.compile=false", "hardware.threads=1", f"budget.max_steps={STEPS}"),
    *("data.train_tokens=20000", "data.val_tokens=2000", "optim.matrix_lr=0.3", "model.compute_dtype=float32"),
]


def losses(tmp_path: Path, name: str, qat: dict, reference: bool = False) -> list[float]:
    config = copy.deepcopy(resolve_config(compose("train", [*OVERRIDES, f"data.folder={tmp_path / 'data'}"])))
    config["qat"] = qat
    run = create_run_folder(tmp_path / name, config, [])
    if not reference:
        train_run(run, tmp_path / name / "stages" / "train")
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [line["train/loss"] for line in lines if "train/loss" in line]
    session = open_session(config, run.path, run.data(silent), silent, torch.device("cpu"))
    session.qat.attach(session.net)
    found: list[float] = []
    train(
        session.net,
        build(config["optim"])(session.net),
        session.stream,
        session.schedules,
        session.clock,
        session.device,
        average=session.average,
        qat=session.qat,
        on_step=lambda step, loss: found.append(float(loss)),
    )
    return found


def test_qat_acts_from_its_fraction_on_and_alike_on_both_paths(tmp_path: Path) -> None:
    node = {"_target_": "toy_qat.RoundedMlp", "start_fraction": 0.5}
    plain, rounded = losses(tmp_path, "plain", {}), losses(tmp_path, "rounded", node)
    assert len(plain) == len(rounded) == STEPS
    assert rounded[: STEPS // 2] == plain[: STEPS // 2]
    assert rounded[STEPS // 2] != plain[STEPS // 2]
    assert losses(tmp_path, "reference", node, reference=True) == rounded
