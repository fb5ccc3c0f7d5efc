"""The table of third-party signatures says what the installed Lightning says."""

from __future__ import annotations

import json

from golf.config.signature_table import build_table
from golf.config.signatures import TABLE


def test_table_is_true():
    assert json.loads(TABLE.read_text()) == build_table(), "run: python -m golf.config.signature_table"


def test_the_names_people_use_are_in_it():
    targets = json.loads(TABLE.read_text())["targets"]
    for name in ("EarlyStopping", "ModelCheckpoint", "LearningRateMonitor", "RichProgressBar", "DeviceStatsMonitor"):
        assert f"lightning.pytorch.callbacks.{name}" in targets
    for name in ("WandbLogger", "TensorBoardLogger", "CSVLogger"):
        assert f"lightning.pytorch.loggers.{name}" in targets
    assert "lightning.pytorch.profilers.SimpleProfiler" in targets
    assert "lightning.pytorch.Trainer" in targets
