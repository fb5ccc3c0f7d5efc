"""Banks: matrices of one shape lie in one contiguous tensor [N, R, C], each layer's weight a view of it.

The layout of the records from 23 March 2026. Names, gradients, updates and exports are those of separate matrices.
"""

from typing import Any

from golf.models.linear.blocks import block_linears
from golf.optim.banks import bank_parameters


class BankedWeights:
    """Puts the matrices of the blocks into banks by shape."""

    def __call__(self, model: Any) -> None:
        shapes: dict[Any, list[Any]] = {}
        for linear in block_linears(model).values():
            if linear.weight is not None and not linear.weight.is_meta:
                shapes.setdefault(tuple(linear.weight.shape), []).append(linear.weight)
        for matrices in shapes.values():
            bank_parameters(matrices)
