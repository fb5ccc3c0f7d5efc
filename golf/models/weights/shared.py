"""Shared weights: blocks beyond the first `unique` use the matrices of earlier ones (as ALBERT, arXiv:1909.11942).

Block i multiplies with the matrices of block i mod unique; scales, gains and gates stay each block's own.
"""

from typing import Any

from torch import Tensor

from golf.errors import UserError
from golf.models.linear.blocks import block_linears


class TiedMatrix:
    """Source of a linear map's weight: another linear map's."""

    def __init__(self, owner: Any):
        self.owner = [owner]  # in a list, so that it is not registered a second time

    def __call__(self, context: Any) -> Tensor:
        return self.owner[0].weight


class SharedWeights:
    """`unique`: blocks that keep matrices of their own."""

    def __init__(self, unique: int):
        if unique < 1:
            raise UserError(f"model.weights.unique={unique} must be at least 1; type model.weights.unique=1")
        self.unique = unique

    def __call__(self, model: Any) -> None:
        if model.plan.blocks != model.plan.layers:
            raise UserError("model/weights=shared does not go with model/depth=mini_recurrence; type model/depth=unet")
        if self.unique > len(model.blocks):
            raise UserError(
                f"model.weights.unique={self.unique} is more than the {len(model.blocks)} blocks there are; "
                f"type model.weights.unique={len(model.blocks)}"
            )
        linears = block_linears(model)
        for name, linear in linears.items():
            block, _, rest = name.removeprefix("blocks.").partition(".")
            if int(block) >= self.unique:
                linear.source = TiedMatrix(linears[f"blocks.{int(block) % self.unique}.{rest}"])
                linear.weight = None
