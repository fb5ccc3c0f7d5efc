"""Networks of the public scripts, as golf builds them: hyperparameters and parameter names to a model node.

What a network is, is read from its parameter names, shapes and settings, never from a record's name. Whatever would
change the function and is not known here makes the network unsupported, with the reason: a silent approximation would
be worse. Sizes come from the tensors where they show (width, layers, heads, MLP), from the settings where they do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from golf.errors import GolfError

BASELINE_BLOCK_PARAMETERS = (
    "attn.c_q.weight",
    "attn.c_k.weight",
    "attn.c_v.weight",
    "attn.proj.weight",
    "attn.q_gain",
    "mlp.fc.weight",
    "mlp.proj.weight",
    "attn_scale",
    "mlp_scale",
    "resid_mix",
)
BASELINE_PARAMETERS = ("tok_emb.weight", "skip_weights", "lm_head.weight")

# What a parameter name beyond the baseline's means: the first pattern that matches a name explains it.
FOREIGN_PARAMETERS = (
    (r"^bigram\.", "hashed bigram embedding"),
    (r"^trigram\.", "hashed trigram embedding"),
    (r"^smear(_|\.)", "smear gate"),
    (r"^ve_", "shared value embedding"),
    (r"(^|\.)attn_gate|gate_w$", "attention output gate"),
    (r"_bank$", "stacked weight banks"),
    (r"^skip_gates$", "gated skips"),
    (r"^repeat_mlp\.", "repeated layers with MLPs of their own"),
    (r"^parallel_", "parallel residual lanes"),
    (r"^mtp_", "multi-token prediction heads"),
)

# Settings that change the function, with the values that leave it the baseline's, and what any other value means.
FOREIGN_SETTINGS: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("xsa_last_n", (0, None), "exclusive self-attention (XSA)"),
    ("ln_scale", (False, None), "norm scale 1/sqrt(layer + 1)"),
    ("num_loops", (0, None), "looped layers"),
    ("recur_layers", ("", None, []), "repeated layers"),
    ("recur_layers_str", ("", None), "repeated layers"),
    ("parallel_residual", (False, None), "parallel residual lanes"),
    ("parallel_start_layer", (None, -1), "parallel residual lanes"),
    ("parallel_residual_start", (None, -1), "parallel residual lanes"),
    ("gated_attention", (False, None), "gated attention"),
    ("gated_attn_enabled", (False, None), "gated attention"),
    ("sparse_attn_gate_enabled", (False, None), "sparse attention gate"),
    ("attn_out_gate_enabled", (False, None), "attention output gate"),
    ("smear_gate_enabled", (False, None), "smear gate"),
    ("value_residual", (False, None), "value residual"),
    ("ve_enabled", (False, None), "shared value embedding"),
    ("dtg", (False, None), "per-token depth gate"),
    ("skip_gates_enabled", (False, None), "gated skips"),
    ("bigram_vocab_size", (0, None), "hashed bigram embedding"),
    ("mtp_num_heads", (0, None), "multi-token prediction heads"),
    ("rope_yarn", (False, None), "YaRN-scaled rotary embedding"),
    ("canon_ac_layers", ((), [], None, ""), "Canon convolutions"),
    ("disable_layer0_attn", (False, None), "first layer without attention"),
)

# Constructor settings of the scripts that are understood, or that only concern training.
KNOWN_MODEL_SETTINGS = {
    "vocab_size",
    "num_layers",
    "model_dim",
    "embedding_dim",
    "num_heads",
    "num_kv_heads",
    "mlp_mult",
    "mlp_activation",
    "tie_embeddings",
    "tied_embed_init_std",
    "logit_softcap",
    "rope_base",
    "rope_dims",
    "train_seq_len",
    "qk_gain_init",
    "mtp_loss_weight",
    "weight_seed",
}


class UnsupportedNetwork(GolfError):
    """golf has no part for something this network contains; the message says for what."""

    exit_code = 2


def mlp_power(activation: Any) -> int:
    """Power p of relu(x)^p from a structured or written description; the scripts' default is 2."""
    if activation is None:
        return 2
    if isinstance(activation, Mapping):
        kind = str(activation.get("kind", "relu_squared"))
        if kind == "relu_squared":
            return 2
        if kind == "relu_power" and float(activation.get("power", 2)).is_integer():
            return int(activation.get("power", 2))
        raise UnsupportedNetwork(f"MLP activation {kind}")
    text = str(activation)
    written = re.match(r"\s*relu\s*\(x\)\s*(?:\*\*|\^)\s*(\d+)", text)
    if written:
        return int(written.group(1))
    if re.match(r"\s*relu(_squared|\^2|2)\b", text):
        return 2
    raise UnsupportedNetwork(f"MLP activation {text[:60]}")


def refuse_foreign_features(
    shapes: Mapping[str, Sequence[int]], settings: Mapping[str, Any], structure: Mapping[str, Any]
) -> None:
    """Raise UnsupportedNetwork for the first thing that golf's baseline-family model would compute differently."""
    for name in sorted(shapes):
        block = re.match(r"^blocks\.\d+\.(.+)$", name)
        if name in BASELINE_PARAMETERS or (block and block.group(1) in BASELINE_BLOCK_PARAMETERS):
            continue
        local = block.group(1) if block else name
        meaning = next((text for pattern, text in FOREIGN_PARAMETERS if re.search(pattern, local)), "unknown parameter")
        raise UnsupportedNetwork(f"{meaning} (parameter {name})")
    for key, neutral, meaning in FOREIGN_SETTINGS:
        if key in settings and settings[key] not in neutral:
            raise UnsupportedNetwork(f"{meaning} ({key}={settings[key]})")
    if structure.get("xsa_layers"):
        raise UnsupportedNetwork(f"exclusive self-attention (XSA) in layers {structure['xsa_layers']}")
    for key in structure:
        if key.startswith("recurrent_") or key in ("lanes", "smear", "skips", "fake_quant", "phase1"):
            raise UnsupportedNetwork(f"structure.{key}: {str(structure[key])[:60]}")


def refuse_foreign_rotary(head_width: int, settings: Mapping[str, Any], rotary: Mapping[str, Any]) -> None:
    """Partial rotary embedding, and frequencies rescaled beyond a reference length, are not the baseline's."""
    for source in (settings, rotary):
        if source.get("rope_dims") not in (None, 0, head_width):
            raise UnsupportedNetwork(f"partial rotary embedding (rope_dims={source['rope_dims']})")
    if rotary.get("train_seq_len") is not None:
        raise UnsupportedNetwork(f"rotary frequencies rescaled beyond {rotary['train_seq_len']} tokens")


def upstream_model_node(
    shapes: Mapping[str, Sequence[int]],
    settings: Mapping[str, Any],
    structure: Mapping[str, Any] | None = None,
    compute_dtype: str = "float32",
) -> dict[str, Any]:
    """The model node of a baseline-family network.

    Args:
        shapes: parameter name (the scripts' own) to shape.
        settings: constructor arguments or hyperparameters of the script.
        structure: further facts of a conformance spec (activation, rotary, XSA layers), where there are any.
    Raises:
        UnsupportedNetwork: the network has a part that golf does not build.
    """
    structure = structure or {}
    refuse_foreign_features(shapes, settings, structure)
    vocab_size, width = shapes["tok_emb.weight"]
    layers = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
    heads = shapes["blocks.0.attn.q_gain"][0]
    kv_heads = shapes["blocks.0.attn.c_k.weight"][0] * heads // width
    refuse_foreign_rotary(width // heads, settings, structure.get("rotary", {}))
    tied = "lm_head.weight" not in shapes
    activation = structure.get("mlp_activation", settings.get("mlp_activation"))
    return {
        "_target_": "golf.models.gpt.GPT",
        "vocab_size": int(vocab_size),
        "num_layers": layers,
        "width": int(width),
        "num_heads": int(heads),
        "num_kv_heads": int(kv_heads),
        "mlp_mult": shapes["blocks.0.mlp.fc.weight"][0] / width,
        "embedding": _partial_node("golf.models.embedding.token.TokenEmbedding"),
        "attention": _partial_node(
            "golf.models.attention.grouped_query.GroupedQueryAttention",
            qk_gain=float(settings.get("qk_gain_init", 1.5)),
        ),
        "mlp": _partial_node("golf.models.mlp.relu_power.ReluPower", power=mlp_power(activation)),
        "residual": _partial_node("golf.models.residual.x0_mix.X0MixBlock"),
        "rope": _partial_node("golf.models.rope.Rope", base=float(settings.get("rope_base", 10000.0))),
        "depth": _partial_node("golf.models.depth.unet_depth"),
        "initialise": {"_target_": "golf.models.initialise.BaselineInitialiser"},
        "tie_embeddings": tied,
        "logit_softcap": float(settings.get("logit_softcap", 30.0)),
        "compute_dtype": compute_dtype,
    }


def _partial_node(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "_partial_": True, **arguments}


def refuse_unknown_settings(model_settings: Mapping[str, Any]) -> None:
    """A constructor argument nobody here knows, set to something, may change the function: say so."""
    known = KNOWN_MODEL_SETTINGS | {key for key, _, _ in FOREIGN_SETTINGS}
    for key, value in model_settings.items():
        if key not in known and value not in (None, False, 0, "", []):
            raise UnsupportedNetwork(f"unknown model setting {key}={value}")


def upstream_parameter_names(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The scripts' parameter names to golf's: equal in the baseline family; tensors without elements have no home."""
    return {name: name for name, shape in shapes.items() if 0 not in tuple(shape)}


def build_upstream_model(
    state: Mapping[str, Any],
    settings: Mapping[str, Any],
    structure: Mapping[str, Any] | None = None,
    compute_dtype: str = "float32",
) -> Any:
    """A golf model that holds `state` (the scripts' names), in float32, in evaluation mode."""
    import torch

    from golf.config.build import build

    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    with torch.random.fork_rng(devices=[]):  # the initial draws are overwritten: leave the caller's random state alone
        model = build(upstream_model_node(shapes, settings, structure, compute_dtype))
    names = upstream_parameter_names(shapes)
    model.load_state_dict({ours: state[theirs] for theirs, ours in names.items()}, strict=True)
    return model.float().eval()
