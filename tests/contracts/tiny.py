"""Any configuration of conf/, shrunk until a laptop runs it in a second: same options, small numbers.

Layers and everything that counts them (loops, lanes, blocks with value embeddings …) shrink together, so that what is
built has every part of the original. With `layers=None` depth stays as it is and only the matrices become small.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from golf.config.compose import compose, conf_dir
from golf.doctor.shrink import PARTS, SMALL_NUMEL, at_most

TINY_MODEL = {"num_layers": 3, "width": 32, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 64}
TINY_DATA = {"tokens_per_step": 128, "seq_len": 16, "spans_per_step": 2}


def options(group: str) -> list[str]:
    """Names of the options of a config group, `as_run` (which means nothing for training) left out."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if path.stem != "as_run")


def records() -> list[str]:
    """Ids of the record experiments, in order of date."""
    return sorted(path.stem for path in (conf_dir() / "experiment" / "record").glob("*.yaml"))


def tiny(overrides: list[str], layers: int | None = 3) -> dict[str, Any]:
    """A composed config with tiny sizes, float32, eager, on the CPU. layers: None = as many as it has."""
    return shrunk(compose("train", overrides), layers)


def shrunk(config: dict[str, Any], layers: int | None = 3) -> dict[str, Any]:
    """The tiny variant of a composed config."""
    config = copy.deepcopy(config)
    model = config["model"]
    had = model["num_layers"]
    model.update(TINY_MODEL, num_layers=layers or had, compute_dtype="float32")
    for part, limits in PARTS.items():
        at_most(model.get(part), limits)
    shrink_depth(model, had)
    for key in TINY_MODEL:
        config["data"].pop(key, None)
    config["data"].update(TINY_DATA)
    for key, value in {"stride": 8, "max_tokens": 96}.items():
        if key in config["eval"]:
            config["eval"][key] = value
    shrink_learning(config["eval"].get("ttt") or {})
    if isinstance(config["codec"].get("level"), int):
        config["codec"]["level"] = 1  # the memory that the highest levels ask for takes longer than the packing
    config["hardware"].update(accelerator="cpu", devices=1, compile=False, compute_dtype="float32", threads=1)
    return config


def shrink_learning(ttt: dict[str, Any]) -> None:
    """Test-time training of a few small adapters on a few documents: every part of the method takes part."""
    small = {"rank": 2, "chunk": 8, "batch_documents": 4, "chunk_tokens": 32, "batch_sequences": 2, "documents": 6}
    for node in (ttt, ttt.get("lora") or {}, ttt.get("sgd") or {}):
        node.update({key: value for key, value in small.items() if key in node})


def shrink_quantisation(quant: dict[str, Any]) -> None:
    """What is large stays large beside the matrices there are, and calibration reads a few short sequences.

    For tests of single recipes: grids of options keep matrices this small as floats, which is what they can afford.
    """
    if quant.get("small_numel"):
        quant["small_numel"] = SMALL_NUMEL
    if quant.get("prune"):
        quant["prune"]["above"] = SMALL_NUMEL
    if isinstance(quant.get("matrix"), dict) and "group_size" in quant["matrix"]:
        quant["matrix"]["group_size"] = PARTS["linear"]["group"]
    small = {"batches": 2, "rows": 2, "sequences": 2}
    calibration = quant.get("calibration") or {}
    calibration.update({key: value for key, value in small.items() if key in calibration})


def shrink_depth(model: dict[str, Any], had: int) -> None:
    """Move what counts layers into the layers there are, from the end; steps at which phases begin become the first."""
    layers = model["num_layers"]
    gone = had - layers
    for part, key in (("lanes", "start"), ("residual", "start"), ("depth", "first"), ("depth", "last")):
        if isinstance((model.get(part) or {}).get(key), int):
            model[part][key] = min(max(model[part][key] - max(gone, 0), 1), layers - 1)
    if gone and model["depth"].get("repeated"):
        model["depth"]["repeated"] = [layers - 2, layers - 1]
    if model["depth"].get("start_step"):
        model["depth"]["start_step"] = 1
    if isinstance((model.get("xsa") or {}).get("last_n"), int):
        model["xsa"]["last_n"] = min(model["xsa"]["last_n"], layers)
    if gone and (model.get("values") or {}).get("blocks"):
        model["values"]["blocks"] = [layers - 2, layers - 1]


def tiny_data(folder: Path, order: dict[str, Any] | None = None, shard_tokens: int = 1_000_000) -> dict[str, Any]:
    """A synthetic data node of the tiny vocabulary in `folder`, read in the given order."""
    node = dict(compose("train", ["data=synthetic"])["data"])
    node.update(TINY_DATA, folder=str(folder), vocab_size=64, train_tokens=5000, val_tokens=500, branches=4)
    node["shard_tokens"] = shard_tokens
    return node if order is None else {**node, "order": order}
