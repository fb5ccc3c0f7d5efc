"""The configuration of a dry run, from the user's: at full shape with less repetition, or small throughout.

Invariant: at full shape nothing changes that decides about a graph, a kernel or memory: network, dtype, compilation,
tokens per micro-batch and device, sequence length, windows per forward pass, codec, quantiser.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from golf.errors import UserError

MODEL = {"width": 32, "num_heads": 4, "num_kv_heads": 2}  # layers stay: depth plans count them
# Sizes of parts beside such a width: at most these, whatever the option.
PARTS = {
    "bigram": {"buckets": 48, "columns": 8},
    "embedding": {"rank": 12},
    "gate": {"inputs": 12},
    "initialise": {"smallest_side": 8},
    "linear": {"group": 32},
    "rope": {"dims": 4},
    "values": {"columns": 8},
}
SMALL_NUMEL = 300  # as 65,536 at full width: between the rows of scalars and the smallest matrix of a block
TTT = {"rank": 2, "chunk": 8, "batch_documents": 4, "chunk_tokens": 64, "batch_sequences": 2, "documents": 6}
DATA = {"tokens_per_step": 256, "seq_len": 32, "spans_per_step": 2}
SYNTHETIC = {"train_tokens": 20_000, "val_tokens": 2_000, "branches": 4}
STEPS = 3
SYNTHETIC_SOURCE = "golf.data.synthetic.SyntheticSource"
WINDOWS = 8
DOCUMENTS = 8
Config = dict[str, Any]


def full(config: Config, folder: Path, steps: int) -> tuple[Config, list[str]]:
    """The run as asked for with `steps` optimizer steps; and what was cut, in words."""
    found = once(copy.deepcopy(config))
    data, hardware, notes = found["data"], found["hardware"], []
    devices = int(hardware["devices"])
    if hardware["accelerator"] not in ("cuda",) and data["spans_per_step"] > devices:
        per_span = data["tokens_per_step"] // data["spans_per_step"]
        notes.append(f"{devices} of {data['spans_per_step']} micro-batches per step")
        data |= {"tokens_per_step": per_span * devices, "spans_per_step": devices}
    found["budget"] = only_steps(found["budget"], steps)
    limit_evaluation(found)
    found["data"], said = with_data(found, folder, steps)
    return found, [*notes, f"{steps} optimizer step{'s' * (steps > 1)}", *said]


def tiny(config: Config, folder: Path) -> tuple[Config, list[str]]:
    """The same options in small: width 32, three steps of synthetic tokens, eager, one device."""
    found = once(copy.deepcopy(config))
    own = found["model"]
    own.update({key: value for key, value in MODEL.items() if key in own})
    for part, limits in PARTS.items():
        at_most(own.get(part), limits)
    quant = found["quant"] or {}
    at_most(quant, {"small_numel": SMALL_NUMEL})
    at_most(quant.get("prune"), {"above": SMALL_NUMEL})
    at_most(quant.get("matrix"), {"group_size": PARTS["linear"]["group"]})
    at_most(quant.get("calibration"), {"rows": 2, "sequences": 2})
    ttt = found["eval"].get("ttt") or {}
    for node in (ttt, ttt.get("lora"), ttt.get("sgd")):
        at_most(node, TTT)
    found["data"] = synthetic(found, folder) | DATA | SYNTHETIC
    found["budget"] = only_steps(found["budget"], STEPS)
    found["hardware"] |= {"devices": 1, "compile": False, "micro_batch_tokens": 0}
    small = {"max_tokens": 512, "stride": 8, "seq_len": 0}
    found["eval"] |= {key: value for key, value in small.items() if key in found["eval"]}
    found["trainer"] |= {"val_check_steps": 2}
    return found, [f"width {MODEL['width']}, synthetic data, eager, one device, {STEPS} steps"]


def at_most(node: Any, limits: dict[str, int]) -> None:
    """Lower the numbers that a node has to these."""
    if isinstance(node, dict):
        node.update({key: min(node[key], limit) for key, limit in limits.items() if isinstance(node.get(key), int)})


def once(config: Config) -> Config:
    """Nothing logged, nothing resumed, one warm-up step, one calibration batch."""
    if isinstance(config["callbacks"].get("warmup"), dict):
        config["callbacks"]["warmup"]["steps"] = 1
    config["trainer"] |= {"fast_dev_run": False, "profiler": None, "val_check_steps": 0}
    calibration = (config["quant"] or {}).get("calibration")
    if isinstance(calibration, dict):
        few = {"batches": int(config["hardware"]["devices"]), "sequences": calibration.get("rows", 1)}
        calibration.update({key: value for key, value in few.items() if key in calibration})
    return config | {"logger": {}, "through": "score", "init_from": None, "ckpt_path": None}


def only_steps(budget: Config, steps: int) -> Config:
    """The user's budget of bytes with a fixed number of steps; its clock stays off."""
    from golf.config.compose import compose

    return compose("train", ["budget=steps"])["budget"] | {"max_steps": steps, "limit_bytes": budget["limit_bytes"]}


def limit_evaluation(config: Config) -> None:
    """A few windows of every protocol, and for test-time training enough to learn twice, as wide as they will be."""
    evaluation = config["eval"]
    seq_len = int(evaluation.get("seq_len") or config["data"]["seq_len"])
    stride = evaluation.get("stride")
    if stride:
        evaluation["stride"] = max(int(stride), seq_len // 2)  # fewer windows of the same length
    ttt = evaluation.get("ttt")
    learned = 2 * largest_chunk(ttt) if isinstance(ttt, dict) else 0
    if "max_tokens" in evaluation:
        evaluation["max_tokens"] = max(WINDOWS * seq_len, learned)
    if isinstance(ttt, dict):
        ttt.update({key: value for key, value in {"epochs": 1, "documents": DOCUMENTS}.items() if key in ttt})


def largest_chunk(node: Any) -> int:
    """The largest number of targets that a TTT method scores before it learns, also in the methods it is made of."""
    if not isinstance(node, dict):
        return 0
    own = [int(node[key]) for key in ("chunk_tokens", "chunk") if isinstance(node.get(key), int)]
    return max([0, *own, *(largest_chunk(value) for value in node.values())])


def with_data(config: Config, folder: Path, steps: int) -> tuple[Config, list[str]]:
    """The user's data where they are ready; else synthetic tokens of the same vocabulary, and a word about it."""
    from golf.config.build import build
    from golf.data.dataset import open_folder
    from golf.data.manifest import is_complete

    data, at = config["data"], {"folder": str(Path(config["data"]["folder"]).resolve())}
    tokens = steps * data["tokens_per_step"] + calibration_tokens(config)
    sizes = {"train_tokens": 2 * tokens + 10_000, "val_tokens": 2 * validation_tokens(config)}
    if data["_target_"] == SYNTHETIC_SOURCE:
        return data | sizes | {"folder": str(folder / "data")}, []
    dataset = build(data)
    own = dataset.dataset_folder() if hasattr(dataset, "dataset_folder") else None
    try:
        if own is not None and is_complete(own):
            return data | at, []
        if own is None:
            found = open_folder(data["folder"], data["tokenizer"]).tokenizer_path
            return data | at | {"tokenizer": str(Path(found).resolve()) if Path(found).is_file() else found}, []
    except UserError:
        pass  # the data check says it
    return synthetic(config, folder) | sizes | {"branches": 4}, ["synthetic data, as the run's own are not here"]


def calibration_tokens(config: Config) -> int:
    calibration = (config["quant"] or {}).get("calibration")
    if not isinstance(calibration, dict) or "rows" not in calibration:
        return 0
    return int(calibration["rows"]) * config["data"]["seq_len"] * int(calibration.get("batches", 1))


def validation_tokens(config: Config) -> int:
    return max(int(config["eval"].get("max_tokens") or 0), 4 * config["data"]["seq_len"])


def synthetic(config: Config, folder: Path) -> Config:
    """A synthetic source in the run's order, with the vocabulary of its network."""
    from golf.config.compose import compose

    kept = {key: config["data"][key] for key in ("order", "tokens_per_step", "seq_len", "spans_per_step")}
    found = compose("train", ["data=synthetic"])["data"] | kept
    return found | {
        "folder": str(folder / "data"),
        "vocab_size": config["model"]["vocab_size"],
        "tokenizer": "auto",
    }
