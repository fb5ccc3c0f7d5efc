"""Two residual lanes without exchange (records of 4 and 8 April 2026): one sees only attention, one only MLPs.

Both lanes start as x. Per layer: A <- read(A) + attention(read(A)),  B <- B + MLP(B) (no x0 mixing).
The output is m A + (1 - m) B with one learned m, 1/2 at the start.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.context import Context
from golf.models.depth import Visit
from golf.models.lanes.routed import Lanes


class DecoupledLanes(nn.Module):
    """Lanes (A, B), each [B, T, D].

    Args:
        start: first layer with two lanes (7 of 11 in the records).
        skips: where the U-Net's skips go: "first" = lane A (8 April), "lost" = nowhere once the lanes have parted (4
            April, where they were written to a variable that nobody read). The skip into layer `start` reaches both.
    """

    roles: ClassVar[dict[str, str]] = {"merge": "scalar"}
    restrictable: ClassVar[bool] = True

    def __init__(self, num_layers: int, width: int, start: int = 7, skips: str = "first"):
        super().__init__()
        if skips not in ("first", "lost"):
            raise UserError(f"model.lanes.skips={skips} is not known: type model.lanes.skips=first or lost")
        self.start, self.skips = start, skips
        self.merge = nn.Parameter(torch.tensor(0.5))

    def covers(self, visit: Visit, layer: int) -> bool:
        """Whether a visit is run in two lanes: those of the second half of the network."""
        return layer >= self.start and not visit.push

    def skip(self, lanes: Lanes, skip_BTD: Tensor, row: int, skips: Any) -> Lanes:
        first = skips(lanes[0], skip_BTD, row)
        if lanes[0] is lanes[1]:
            return first, first
        return (first if self.skips == "first" else lanes[0]), lanes[1]

    def forward(self, lanes: Lanes, block: Any, context: Context) -> Lanes:
        A, B = lanes
        A, B = block.read(A, context), context.wanted(B)
        return context.wanted(A) + block.attention(A, context), B + block.feed_forward(B, context)

    def join(self, lanes: Lanes) -> Tensor:
        m = self.merge.to(lanes[0].dtype)
        return m * lanes[0] + (1.0 - m) * lanes[1]
