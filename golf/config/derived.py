"""What follows from a config and is therefore not asked for: shown by `golf show`, computed without torch.

Each value says exactly what it is; a value that cannot be computed from the config alone is left out. The number of
parameters needs torch, so it is only there where it is asked for (`--json`).
"""

from __future__ import annotations

from typing import Any

from golf.config.cross_checks import number
from golf.errors import GolfError, UserError

Config = dict[str, Any]
# What may depend on the machine that trains, or says which values parameters begin with: no parameter depends on it.
MACHINE: Config = {
    "compute_dtype": "float32",
    "backend": {"_target_": "golf.models.attention.sdpa.Sdpa"},
    "initialise": None,
}
DRAWS = ("normal_", "uniform_", "trunc_normal_", "orthogonal_", "kaiming_uniform_")


def derived(config: Config, parameters: bool = False) -> dict[str, Any]:
    """Name → value: head width, parameters (if asked for), micro-steps, tokens, in reading order.

    Raises:
        UserError: the parameters are asked for and the model cannot be built.
    """
    values: dict[str, Any] = {}
    values.update(_model(config))
    if parameters and _is_node(config.get("model")):
        values["model.parameters"] = count_parameters(config)
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
    return values


def count_parameters(config: Config) -> int:
    """Parameters of the model, counted on a network without memory (torch's meta device). Imports torch.

    Raises:
        UserError: the model cannot be built.
    """
    from torch.overrides import TorchFunctionMode

    from golf.config.build import build

    class WithoutMemory(TorchFunctionMode):
        """Matrices and tables are on the meta device, undrawn; vectors are real. (With `torch.device("meta")` PyTorch
        computes on vectors by importing its compiler, which takes another second.)"""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, named = getattr(func, "__name__", ""), kwargs or {}
            if name in DRAWS:
                return args[0] if args else named["tensor"]
            return func(*args, **(named | {"device": "meta"} if name == "empty" else named))

    try:
        with WithoutMemory():
            net = build({key: MACHINE.get(key, value) for key, value in config["model"].items()})
    except GolfError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"model cannot be built ({type(error).__name__}: {said}): type golf check with it") from error
    return sum(parameter.numel() for parameter in net.parameters())


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


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
