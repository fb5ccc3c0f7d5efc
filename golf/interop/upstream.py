"""Networks of the public scripts, as golf builds them: shapes, settings and structure to a model node.

What a network is, is read from its parameter names, shapes and settings, never from a record's name. Whatever would
change the function and is not known here makes the network unsupported, with the reason: a silent approximation would
be worse. Sizes come from the tensors where they show (width, layers, heads, MLP), from the settings where they do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from golf.interop.upstream_depth import depth_node
from golf.interop.upstream_names import Piece, from_upstream, pieces_of
from golf.interop.upstream_parts import (
    Network,
    bigram_node,
    gate_node,
    kv_heads_of,
    mlp_node,
    network_of,
    partial_node,
    rope_node,
    smear_node,
    values_node,
    xsa_node,
)
from golf.interop.upstream_settings import (
    UnsupportedNetwork,
    refuse_foreign_settings,
    refuse_unknown_settings,
    setting,
    words_of,
)

__all__ = ["UnsupportedNetwork", "build_upstream_model", "refuse_unknown_settings", "upstream_model_node"]

Z_LOSS_WEIGHT = 1e-4  # of the ternary record (24 March 2026), whose script has no setting for it


def upstream_model_node(
    shapes: Mapping[str, Sequence[int]],
    settings: Mapping[str, Any],
    structure: Mapping[str, Any] | None = None,
    compute_dtype: str = "float32",
    pieces: Sequence[Piece] | None = None,
) -> dict[str, Any]:
    """The model node of a network of the public scripts.

    Args:
        shapes: parameter name (the scripts' own) to shape.
        settings: constructor arguments or hyperparameters of the script.
        structure: further facts of a conformance spec (activation, rotary, XSA layers …), where there are any.
        pieces: where each tensor belongs, if it is known already.
    Raises:
        UnsupportedNetwork: the network has a part that golf does not build.
    """
    structure = structure or {}
    refuse_foreign_settings(settings)
    net = network_of(shapes, pieces_of(shapes) if pieces is None else pieces, settings, structure)
    skip_rows = int(net.ours.get("skips.weights", (0,))[0])
    untied = sum(name.startswith("extra_mlps.") and name.endswith(".proj.weight") for name in net.ours)
    node = {
        "_target_": "golf.models.gpt.GPT",
        "vocab_size": int(shapes["tok_emb.weight"][0]),
        "num_layers": net.layers,
        "width": net.width,
        "num_heads": net.heads,
        "num_kv_heads": kv_heads_of(net),
        "mlp_mult": net.ours["blocks.0.mlp.proj.weight"][1] / net.width,
        "embedding": embedding_node(net),
        "attention": attention_node(net),
        "mlp": mlp_node(net),
        "residual": residual_node(net),
        "rope": rope_node(net),
        "depth": depth_node(net.layers, net.blocks, skip_rows, settings, structure, untied),
        "skips": partial_node("skips.GatedSkips" if "skips.gates" in net.ours else "skips.PlainSkips"),
        "softcap": softcap_node(net),
        "initialise": {"_target_": "golf.models.initialise.BaselineInitialiser"},
        "backend": {"_target_": "golf.models.attention.sdpa.Sdpa"},
        "tie_embeddings": "lm_head.weight" not in net.ours,
        "compute_dtype": compute_dtype,
    }
    parts = {
        "bigram": bigram_node(net),
        "smear": smear_node(net),
        "values": values_node(net),
        "lanes": lanes_node(net),
        "xsa": xsa_node(net),
        "gate": gate_node(net),
        "linear": ternary_node(net),
        "objective": objective_node(net),
    }
    return node | {name: part for name, part in parts.items() if part is not None}


def attention_node(net: Network) -> dict[str, Any]:
    fused = "blocks.0.attn.c_qkv.weight" in net.ours
    kind = "fused_qkv.FusedQkvAttention" if fused else "grouped_query.GroupedQueryAttention"
    return partial_node(f"attention.{kind}", qk_gain=float(net.settings.get("qk_gain_init") or 1.5))


def embedding_node(net: Network) -> dict[str, Any]:
    columns = int(net.shapes["tok_emb.weight"][1])
    if columns == net.width:
        return partial_node("embedding.token.TokenEmbedding")
    stored = [value for key, value in net.settings.items() if re.search(r"fp_?storage|fp8", key)]
    fp8 = any(value and "4" not in str(value) for value in stored)
    bias = "tok_emb.vocab_bias" in net.ours
    return partial_node("embedding.factored.FactoredEmbedding", rank=columns, vocab_bias=bias, fp8=fp8)


def parallel_start(net: Network) -> int | None:
    """First layer of a parallel residual, None for none."""
    described = net.structure.get("lanes")
    starts = [v for k, v in described.items() if "start" in k] if isinstance(described, Mapping) else []
    start = setting(net.settings, "parallel_start", starts[0] if starts else None)
    return None if start is None or start < 0 or start >= net.layers else int(start)


def residual_node(net: Network) -> dict[str, Any]:
    """Blocks: sequential, or GPT-J's form where a start is given and no parameters of lanes are there."""
    arguments: dict[str, Any] = {"norm_scale": bool(net.settings.get("ln_scale"))}
    if net.settings.get("disable_layer0_attn"):
        arguments["attention_free"] = [0]
    start = parallel_start(net)
    if start is None or any(name.startswith("lanes.") for name in net.ours):
        return partial_node("residual.x0_mix.X0MixBlock", **arguments)
    return partial_node("residual.parallel.ParallelBlock", start=start, **arguments)


def lanes_node(net: Network) -> dict[str, Any] | None:
    """Two lanes: decoupled (one merge parameter), routed (31 March: PARALLEL_RESIDUAL) or with lambdas (10 April)."""
    if not any(name.startswith("lanes.") for name in net.ours):
        return None
    start = parallel_start(net)
    start = net.layers if start is None else start  # parameters without a part to play
    if "lanes.merge" in net.ours:
        return partial_node("lanes.decoupled.DecoupledLanes", start=start, skips=lost_or_first(net))
    if "parallel_residual" not in net.settings:
        return partial_node("lanes.parallel.ParallelLanes", start=start)
    return partial_node("lanes.routed.RoutedLanes", start=start if net.settings["parallel_residual"] else net.layers)


def lost_or_first(net: Network) -> str:
    """Where skips go in decoupled lanes: described, or lost where the rows of skip weights are those without loops."""
    words = words_of([net.structure.get("lanes", ""), net.structure.get("skips", "")])
    if re.search(r"lost|dead|dropped|discard|unused|not applied", words):
        return "lost"
    if re.search(r"lane ?0|lane0|first lane|lane a\b|attn|attention lane", words):
        return "first"
    return "lost" if setting(net.settings, "recur_layers") is not None else "first"


def softcap_node(net: Network) -> dict[str, Any]:
    cap = float(net.settings.get("logit_softcap") or 0.0) if "logit_softcap" in net.settings else 30.0
    kind = words_of([net.settings.get("softcap_type", ""), net.structure.get("softcap", "")])
    if not cap:
        return {"_target_": "golf.models.softcap.NoSoftcap"}
    target = "PolynomialSoftcap" if "poly" in kind else "TanhSoftcap"
    return {"_target_": f"golf.models.softcap.{target}", "cap": cap}


def ternary_node(net: Network) -> dict[str, Any] | None:
    """Ternary weights: scripts with a size of groups."""
    sizes = [v for key, v in net.settings.items() if re.fullmatch(r"(bitnet_|ternary_)?group_size", key) and v]
    if not sizes:
        return None
    return partial_node("linear.ternary.TernaryLinears", group=int(sizes[0])) | {"_partial_": False}


def objective_node(net: Network) -> dict[str, Any] | None:
    """What the training loss adds; scores never contain it."""
    heads = sum(name.startswith("objective.heads.") for name in net.ours)
    if heads:
        weight = float(net.settings.get("mtp_loss_weight", 0.2))
        return partial_node("objective.multi_token.MultiTokenPrediction", heads=heads, weight=weight)
    given = [v for key, v in {**net.settings, **net.structure}.items() if re.search("z_?loss", key)]
    weights = [float(v) for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    weight = weights[0] if weights else Z_LOSS_WEIGHT if "tok_emb.vocab_bias" in net.ours else 0.0
    return partial_node("objective.z_loss.ZLoss", weight=weight) if weight else None


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
    pieces = pieces_of(shapes)
    with torch.random.fork_rng(devices=[]):  # the initial draws are overwritten: leave the caller's random state alone
        model = build(upstream_model_node(shapes, settings, structure, compute_dtype, pieces))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(from_upstream(state, expected, pieces), strict=True)
    return model.float().eval()
