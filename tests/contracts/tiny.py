"""Any configuration of conf/, shrunk until a laptop runs it in a second: same options, small numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from golf.config.compose import compose, conf_dir

TINY_MODEL = {"num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 64}
TINY_DATA = {"tokens_per_step": 128, "seq_len": 16, "spans_per_step": 2}


def options(group: str) -> list[str]:
    """Names of the options of a config group, `as_run` (which means nothing for training) left out."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if path.stem != "as_run")


def tiny(overrides: list[str]) -> dict[str, Any]:
    """A composed config with tiny sizes, float32, eager, on the CPU."""
    config = copy.deepcopy(compose("train", overrides))
    config["model"].update(TINY_MODEL, compute_dtype="float32")
    for key in TINY_MODEL:
        config["data"].pop(key, None)
    config["data"].update(TINY_DATA)
    config["hardware"].update(accelerator="cpu", devices=1, compile=False, compute_dtype="float32", threads=1)
    return config


def tiny_data(folder: Path) -> dict[str, Any]:
    """A synthetic data node of the tiny vocabulary in `folder`."""
    node = dict(compose("train", ["data=synthetic"])["data"])
    node.update(TINY_DATA, folder=str(folder), vocab_size=64, train_tokens=5000, val_tokens=500, branches=4)
    return node
