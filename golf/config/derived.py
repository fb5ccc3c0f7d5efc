"""What follows from a config and is therefore not asked for: shown by `golf show`, computed without torch.

Each value says exactly what it is; a value that cannot be computed from the config alone is left out.
"""

from __future__ import annotations

from typing import Any

from golf.config.cross_checks import get, number

Config = dict[str, Any]


def derived(config: Config) -> dict[str, Any]:
    """Name → value: head width, parameters, micro-steps, tokens, in reading order."""
    values: dict[str, Any] = {}
    values.update(_model(config))
    values.update(_steps(config))
    return values


def _model(config: Config) -> dict[str, Any]:
    width, heads = number(config, "model.width"), number(config, "model.num_heads")
    mult = number(config, "model.mlp_mult")
    values: dict[str, Any] = {}
    if width and heads and not width % heads:
        values["model.head_width"] = int(width // heads)
    if width and mult:
        values["model.mlp_hidden"] = round(mult * width)
    parameters = count_parameters(config)
    if parameters:
        values["model.parameters"] = parameters
    return values


# Parameters of a part in the sizes D width, H heads, K kv heads, E head width, F hidden, V vocabulary.
_PARTS = {
    "golf.models.attention.grouped_query.GroupedQueryAttention": lambda D, H, K, E, F, V: 2 * D * D + 2 * D * K * E + H,
    "golf.models.mlp.relu_power.ReluPower": lambda D, H, K, E, F, V: 2 * D * F,
    "golf.models.residual.x0_mix.X0MixBlock": lambda D, H, K, E, F, V: 4 * D,
    "golf.models.residual.pre_norm.PreNormBlock": lambda D, H, K, E, F, V: 0,
    "golf.models.embedding.token.TokenEmbedding": lambda D, H, K, E, F, V: V * D,
}
_SKIPS = {"golf.models.depth.unet_depth": lambda layers: layers // 2, "golf.models.depth.plain_depth": lambda layers: 0}


def count_parameters(config: Config) -> int | None:
    """Parameters of a golf.models.gpt.GPT made of parts listed here; None for anything else."""
    model = config.get("model")
    if get(model, "_target_") != "golf.models.gpt.GPT":
        return None
    names = ("width", "num_heads", "num_kv_heads", "mlp_mult", "vocab_size", "num_layers")
    sizes = [number(config, f"model.{name}") for name in names]
    targets = {part: get(model, f"{part}._target_") for part in ("attention", "mlp", "residual", "embedding", "depth")}
    known = all(target in _PARTS or target in _SKIPS for target in targets.values())
    if not known or not all(sizes) or sizes[0] % sizes[1]:  # type: ignore[operator]
        return None
    D, H, K, mult, V, layers = sizes  # type: ignore[misc]
    arguments = (int(D), int(H), int(K), int(D // H), round(mult * D), int(V))  # type: ignore[operator,arg-type]
    block = sum(_PARTS[targets[part]](*arguments) for part in ("attention", "mlp", "residual"))
    total = _PARTS[targets["embedding"]](*arguments) + int(layers) * block  # type: ignore[arg-type]
    total += _SKIPS[targets["depth"]](int(layers)) * int(D)  # type: ignore[arg-type]
    return total + (0 if get(model, "tie_embeddings") is not False else int(V) * int(D))  # type: ignore[arg-type]


def _steps(config: Config) -> dict[str, Any]:
    tokens, spans = number(config, "data.tokens_per_step"), number(config, "data.spans_per_step")
    devices, seq_len = number(config, "hardware.devices") or 1, number(config, "data.seq_len")
    steps = number(config, "budget.max_steps")
    values: dict[str, Any] = {}
    if tokens and spans and not spans % devices:
        values["data.micro_steps_per_step"] = int(spans // devices)
        values["data.tokens_per_micro_step_and_device"] = int(tokens // spans)
    if tokens and seq_len and not tokens % seq_len:
        values["data.sequences_per_step"] = int(tokens // seq_len)
    if tokens and steps:
        values["budget.tokens_of_max_steps"] = int(tokens * steps)
    return values
