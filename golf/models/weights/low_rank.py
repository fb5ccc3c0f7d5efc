"""Low-rank weights: W = A B with A [out, r] and B [r, in], both trained; they start as the best rank-r approximation.

A = U sqrt(S), B = sqrt(S) Vᵀ of the initial matrix; a matrix that starts at zero gets A = 0 and B ~ N(0, 1/in).
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.linear.blocks import block_linears


class LowRankMatrix:
    """Source of a linear map's weight: the product of its two factors."""

    def __init__(self, linear: Any):
        self.linear = [linear]

    def __call__(self, context: Any) -> Tensor:
        return self.linear[0].left @ self.linear[0].right


class LowRankWeights:
    """`rank`: r, below both sides of a matrix (others stay whole). `linears`: regular expression over their names."""

    def __init__(self, rank: int, linears: str = ""):
        if rank < 1:
            raise UserError(f"model.weights.rank={rank} must be at least 1; type model.weights.rank=64")
        self.rank, self.linears = rank, re.compile(linears)

    @torch.no_grad()
    def __call__(self, model: Any) -> None:
        changed = 0
        for name, linear in block_linears(model).items():
            if linear.weight is None or not self.linears.search(name) or self.rank >= min(linear.weight.shape):
                continue
            weight, rank = linear.weight.detach().float(), self.rank
            linear.left = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
            linear.right = nn.Parameter(
                nn.init.normal_(weight.new_empty(rank, weight.shape[1]), std=weight.shape[1] ** -0.5)
            )
            if not weight.is_meta and weight.abs().max() > 0:
                U, S, Vt = torch.linalg.svd(weight, full_matrices=False)
                linear.left.copy_(U[:, :rank] * S[:rank].sqrt())
                linear.right.copy_(S[:rank, None].sqrt() * Vt[:rank])
            linear.source, linear.weight = LowRankMatrix(linear), None
            linear.roles = {"left": "matrix", "right": "matrix"}
            changed += 1
        if not changed:
            raise UserError(
                f"model.weights.rank={self.rank} is not below both sides of any matrix '{self.linears.pattern}' names; "
                "type a smaller rank, or model/weights=free"
            )
