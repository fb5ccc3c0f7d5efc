"""Settings of the public scripts that decide what a network is, under all the names they go by.

Sources: constructor arguments, hyperparameters and `structure` of conformance specs. A constructor argument that nobody
here knows and that is set makes a network unsupported; so does every known switch of a part that golf does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from golf.errors import GolfError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "recur_layers": ("recur_layers", "recur_layers_str"),
    "slope": ("negative_slope", "neg_slope", "leaky_slope"),
    "parallel_start": ("parallel_start_layer", "parallel_residual_start"),
    "loop_at": ("enable_looping_at",),
    "value_blocks": ("ve_layers",),
}

# Switches of parts that golf does not build: name, values that leave them off, what they are.
FOREIGN_SETTINGS: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("dtg", (False, None, 0), "per-token depth gate"),
    ("dtg_enabled", (False, None, 0), "per-token depth gate"),
    ("gated_attention", (False, None, 0), "head gate with a bias"),
    ("canon_ac_layers", ((), [], None, "", False), "Canon convolutions"),
    (
        "trigram_enabled",
        (False, None, 0),
        "trigram hash in the bigram table, combined in an unrecorded way",
    ),
    ("parallel_final_lane", ("mean", None, ""), "another final lane than the mean"),
    ("parallel_start_layer_is_physical", (True, None), "lanes counted by visits"),
    ("lora_rank", (0, None), "adapters per loop"),
)

# Constructor settings that are read here, show in the shapes, or only concern training.
KNOWN_MODEL_SETTINGS = {
    *("vocab_size", "num_layers", "model_dim", "embedding_dim", "embed_dim", "num_heads", "num_kv_heads", "head_dim"),
    *("mlp_mult", "mlp_hidden", "mlp_activation", "activation", "negative_slope", "neg_slope", "leaky_slope"),
    *("tie_embeddings", "logit_softcap", "softcap_type", "rope_base", "rope_dims", "rope_type", "rope_yarn"),
    *("rope_train_seq_len", "yarn_max_len", "train_seq_len", "eval_seq_len", "qk_gain_init", "qk_gain", "ln_scale"),
    *("bigram_vocab_size", "bigram_dim", "bigram_buckets", "bigram_embed_dim", "xsa_last_n", "mtp_num_heads"),
    *("mtp_loss_weight", "weight_seed", "ve_enabled", "ve_dim", "ve_layers", "value_residual", "parallel_residual"),
    *("parallel_start_layer", "parallel_residual_start", "recur_layers", "recur_layers_str", "recurrence_active"),
    *("recur_start_step", "repeat_untie_mlp", "repeat_untie_mlp_layers", "num_loops", "loop_start", "loop_end"),
    *("enable_looping_at", "disable_layer0_attn", "skip_gates_enabled", "gated_attn_enabled", "gate_window"),
    *("sparse_attn_gate_enabled", "sparse_attn_gate_scale", "attn_out_gate_enabled", "attn_out_gate_src"),
    *("smear_gate_enabled", "smear_gate", "bigram_hash", "bigram_hash_enabled", "fused_ce_enabled", "qat_enabled"),
    *("late_qat", "use_qat", "qat", "gated_attn_quant_gate", "group_size", "bitnet_group_size", "fp_storage"),
    *("caseops_enabled", "num_unique_layers", "smear_gate_init"),
}
INITIAL_VALUES = re.compile(r"(_init|_init_std|_init_scale|_std|_lr|_wd|seed|_loss_weight)$")
# Settings of training and kernels, which no network is built from, and of parts that show by parameters of their own.
INERT = re.compile(
    r"qat|quant|backend|fa3|flash|compil|dtype|ttt|lawa|ema_|swa_|muon|adam|warmup|fused|tversky|refiner"
)
NEUTRAL = (None, False, 0, "", [], (), {}, "none", "off", "standard", "default")


class UnsupportedNetwork(GolfError):
    """golf has no part for something this network contains; the message says for what."""

    exit_code = 2


def setting(settings: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A setting under any of its names; None counts as not given."""
    for synonym in SYNONYMS.get(name, (name,)):
        if settings.get(synonym) is not None:
            return settings[synonym]
    return default


def whole_numbers(value: Any) -> list[int]:
    """A list of indices from a list or a text such as "4,5" or "4-6"."""
    if value in (None, "", False):
        return []
    if isinstance(value, int):
        return [value]
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else re.split(r"[,;\s]+", value.strip())
    found: list[int] = []
    for part in parts:
        first, _, last = str(part).partition("-")
        found += range(int(first), int(last) + 1) if last else [int(first)]
    return found


def words_of(value: Any) -> str:
    """Everything a description says, in lower case, for the few facts that have no key of their own."""
    return (value if isinstance(value, str) else json.dumps(value)).lower()


def refuse_foreign_settings(settings: Mapping[str, Any]) -> None:
    """Raise UnsupportedNetwork for the first switch of a part that golf does not have."""
    for key, neutral, meaning in FOREIGN_SETTINGS:
        if key in settings and settings[key] not in neutral:
            raise UnsupportedNetwork(f"{meaning} ({key}={settings[key]})")


def refuse_unknown_settings(model_settings: Mapping[str, Any]) -> None:
    """A constructor argument nobody here knows, set to something, may change the function: say so."""
    known = KNOWN_MODEL_SETTINGS | {key for key, _, _ in FOREIGN_SETTINGS}
    for key, value in model_settings.items():
        if key not in known and not INITIAL_VALUES.search(key) and not INERT.search(key) and value not in NEUTRAL:
            raise UnsupportedNetwork(f"unknown model setting {key}={value}")
