"""Two residual lanes, attention on one and the MLP on the other, with learned exchange (records from 10 April 2026).

Both lanes start as x. Per layer: a = attention of the block's read of lane A, b = MLP of lane B (no x0 mixing);
A <- r0 A + p00 a + p10 b,  B <- r1 B + p01 a + p11 b. Skips go to lane A only; the output is the mean of the lanes.
r = 1.1, p = 1 at the start, one row per layer.
"""

from typing import Any, ClassVar

from torch import Tensor

from golf.models.context import Context
from golf.models.lanes.routed import Lanes, RoutedLanes


class ParallelLanes(RoutedLanes):
    """Lanes (A, B), each [B, T, D]; `start`: first layer with two lanes (8 of 11 in the records)."""

    restrictable: ClassVar[bool] = True
    resid_start = 1.1

    def __init__(self, num_layers: int, width: int, start: int = 8):
        super().__init__(num_layers, width, start)

    def skip(self, lanes: Lanes, skip_BTD: Tensor, row: int, skips: Any) -> Lanes:
        return skips(lanes[0], skip_BTD, row), lanes[1]

    def forward(self, lanes: Lanes, block: Any, context: Context) -> Lanes:
        A, B = lanes
        r, p = self.resid_lambdas[context.layer].to(A.dtype), self.post_lambdas[context.layer].to(A.dtype)
        a = block.attention(block.read(A, context), context)
        A, B = context.wanted(A), context.wanted(B)
        b = block.feed_forward(B, context)
        return r[0] * A + p[0, 0] * a + p[1, 0] * b, r[1] * B + p[0, 1] * a + p[1, 1] * b
