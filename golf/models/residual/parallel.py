"""Parallel residual as in GPT-J: attention and MLP read the same input (records of 6 and 9 April 2026).

x <- m0 * x + m1 * x0;  x <- x + a * Attention(c rms(x)) + b * MLP(c rms(x)), from block `start` on; earlier blocks are
sequential. No parameters of its own; about 1.3 % faster per step.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from golf.models.context import Context
from golf.models.residual.x0_mix import X0MixBlock


class ParallelBlock(X0MixBlock):
    """As `X0MixBlock`; `start`: first block in the parallel form (7 of 11 in the records)."""

    restrictable: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        attn: nn.Module,
        mlp: nn.Module,
        block: int = 0,
        norm_scale: bool = False,
        attention_free: Sequence[int] = (),
        start: int = 7,
    ):
        super().__init__(width, attn, mlp, block, norm_scale, attention_free)
        self.parallel = block >= start

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        if not (self.parallel and self.attends):
            return super().forward(x_BTD, context)
        x_BTD = self.read(x_BTD, context)
        y_BTD = context.wanted(x_BTD)
        return y_BTD + self.attention(x_BTD, context) + self.feed_forward(y_BTD, context)
