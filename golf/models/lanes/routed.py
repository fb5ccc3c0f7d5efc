"""Two residual lanes with learned routing of every branch to both lanes (record of 31 March 2026).

Both lanes start as x. Per layer: a = attention of the block's read of lane A; A <- r0 A + p00 a, B <- r0 B + p01 a;
b = MLP of the block's read of lane B; A <- r1 A + p10 b, B <- r1 B + p11 b. So the MLP sees this layer's attention
through lane B. Skips go to both lanes; the output is the mean. r = sqrt(1.1), p = 1 at the start, one row per layer.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from golf.models.context import Context
from golf.models.depth import Visit

Lanes = tuple[Tensor, Tensor]


class RoutedLanes(nn.Module):
    """Lanes (A, B), each [B, T, D]; `start`: first layer with two lanes (7 of 11 in the record)."""

    roles: ClassVar[dict[str, str]] = {"post_lambdas": "scalar", "resid_lambdas": "scalar"}
    restrictable: ClassVar[bool] = True
    resid_start = 1.1**0.5

    def __init__(self, num_layers: int, width: int, start: int = 7):
        super().__init__()
        self.start = start
        self.post_lambdas = nn.Parameter(torch.ones(num_layers, 2, 2))
        self.resid_lambdas = nn.Parameter(torch.full((num_layers, 2), self.resid_start))

    def covers(self, visit: Visit, layer: int) -> bool:
        """Whether a visit is run in two lanes: those of the second half of the network."""
        return layer >= self.start and not visit.push

    def skip(self, lanes: Lanes, skip_BTD: Tensor, row: int, skips: Any) -> Lanes:
        return skips(lanes[0], skip_BTD, row), skips(lanes[1], skip_BTD, row)

    def forward(self, lanes: Lanes, block: Any, context: Context) -> Lanes:
        A, B = lanes
        r, p = self.resid_lambdas[context.layer].to(A.dtype), self.post_lambdas[context.layer].to(A.dtype)
        a = block.attention(block.read(A, context), context)
        A, B = r[0] * context.wanted(A) + p[0, 0] * a, r[0] * context.wanted(B) + p[0, 1] * a
        b = block.feed_forward(block.read(B, context.behind_cut()), context)
        return r[1] * A + p[1, 0] * b, r[1] * B + p[1, 1] * b

    def join(self, lanes: Lanes) -> Tensor:
        return 0.5 * (lanes[0] + lanes[1])
