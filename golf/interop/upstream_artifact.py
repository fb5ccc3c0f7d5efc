"""The network that an artifact of the public scripts belongs to: its tensors say sizes, the rest has to be told.

An int8 file of the baseline's format is a baseline network, up to four settings. A record's file does not say how its
blocks are wired (rotary dimensions, exclusive attention, loops, lanes …): golf's experiment of that record does, or
the script's own constructor arguments. Invariant: nothing is guessed for a record's file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.errors import UserError
from golf.interop.ptz import PTZ_FORMAT
from golf.interop.upstream import UnsupportedNetwork, upstream_model_node
from golf.interop.upstream_settings import refuse_unknown_settings

# Settings of the exporter, which no network is built from.
QUANTISER_SETTINGS = {
    *("embed_bits", "matrix_bits", "embed_clip_sigmas", "matrix_clip_sigmas", "mlp_clip_sigmas", "attn_clip_sigmas"),
    *("lqer_enabled", "lqer_rank", "lqer_top_k", "lqer_asym_enabled", "lqer_asym_group", "lqer_factor_bits"),
    "compressor",
}
HOW_TO_TELL = (
    "type upstream.experiment=record/<its record>, or upstream.settings='{xsa_last_n: 4, rope_dims: 16, …}' or "
    "upstream.settings=<file.json> with the constructor arguments of its script"
)


def node_of_artifact(
    path: Path, shapes: Mapping[str, Sequence[int]], kind: str, told: Mapping[str, Any]
) -> dict[str, Any]:
    """The model node of an artifact.

    Args:
        shapes: of the tensors, by the scripts' names. kind: the file's format (golf/interop/ptz.py).
        told: mlp_power, logit_softcap, rope_base, compute_dtype of a baseline file; experiment or settings of any.
    Raises:
        UserError: nothing is told about a record's file, or something that does not fit.
    """
    experiment, settings = told.get("experiment"), told.get("settings")
    if experiment and settings:
        raise UserError("upstream.experiment and upstream.settings are both given: type one of them")
    if experiment:
        return node_of_experiment(experiment, shapes, told["compute_dtype"])
    if settings:
        return node_of_settings(path, shapes, script_settings(settings), told["compute_dtype"])
    if kind != PTZ_FORMAT:
        raise UserError(f"{path} is a record's artifact, which does not say how its blocks are wired: {HOW_TO_TELL}")
    baseline = {key: told[key] for key in ("logit_softcap", "rope_base")}
    return upstream_model_node(
        shapes, {**baseline, "mlp_activation": f"relu(x)**{told['mlp_power']}"}, compute_dtype=told["compute_dtype"]
    )


def node_of_experiment(experiment: str, shapes: Mapping[str, Sequence[int]], compute_dtype: str) -> dict[str, Any]:
    """The network of one of golf's experiments, for the vocabulary of the file."""
    from golf.config.compose import compose

    node = dict(compose("train", [f"experiment={experiment}"])["model"])
    if "tok_emb.weight" in shapes:
        node["vocab_size"] = int(shapes["tok_emb.weight"][0])
    return {**node, "compute_dtype": compute_dtype}


def node_of_settings(
    path: Path, shapes: Mapping[str, Sequence[int]], settings: Mapping[str, Any], compute_dtype: str
) -> dict[str, Any]:
    """The network that a script builds from its settings; nested mappings describe (`smear: {bos_mask: true}`)."""
    structure = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in settings.items() if key not in structure}
    try:
        refuse_unknown_settings({key: value for key, value in plain.items() if key not in QUANTISER_SETTINGS})
        return upstream_model_node(shapes, plain, structure, compute_dtype)
    except UnsupportedNetwork as reason:
        smear = "add smear: {bos_mask: true} (or false) to upstream.settings, or " if "smear" in str(reason) else ""
        raise UserError(f"{path}: {reason}: {smear}{HOW_TO_TELL}") from reason


def script_settings(given: Any) -> dict[str, Any]:
    """Settings as given, or out of a JSON file: the object itself, or its `model`."""
    if isinstance(given, Mapping):
        return dict(given)
    try:
        found = json.loads(Path(str(given)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"upstream.settings={given} is not a JSON file ({error}): {HOW_TO_TELL}") from error
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise UserError(f"upstream.settings={given} holds no settings by name: {HOW_TO_TELL}")
    return found
