"""Which linear maps an operation is put on, and putting it there.

A linear map with an `op` computes op(x [..., in], W [out, in] float32, context) -> [..., out] instead of x Wᵀ; the
operation has no parameters. Invariant: a linear map has at most one operation.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from golf.errors import UserError
from golf.models.layers import Linear


def block_linears(model: nn.Module) -> dict[str, Any]:
    """The matrices inside the blocks by module name, in order of construction (heads and embeddings are outside)."""
    found = {}
    for name, module in model.named_modules():
        if name.startswith("blocks.") and isinstance(module, Linear) and module.roles.get("weight") == "matrix":
            found[name] = module
    return found


def put_operation(name: str, linear: Any, operation: Callable[..., Any]) -> None:
    """Set the operation of one linear map.

    Raises:
        UserError: it has one already.
    """
    if getattr(linear, "op", None) is not None:
        raise UserError(
            f"{name} already computes with {type(linear.op).__name__}: one operation per linear map; type "
            "model/linear=plain or qat=none"
        )
    linear.op = operation
