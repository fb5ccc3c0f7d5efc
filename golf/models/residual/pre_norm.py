"""Plain pre-norm residual block: x <- x + Attention(rms(x)); x <- x + MLP(rms(x)). The control for residual ideas."""

from typing import ClassVar

from torch import Tensor, nn

from golf.models.context import Context
from golf.models.layers import rms_norm


class PreNormBlock(nn.Module):
    """[B, T, D] -> [B, T, D] without any learned residual parameter."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, attn: nn.Module, mlp: nn.Module, block: int = 0):
        super().__init__()
        self.attn, self.mlp = attn, mlp

    def read(self, x_BTD: Tensor, context: Context) -> Tensor:
        """What this block's branches read from the stream."""
        return x_BTD

    def attention(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Output of the attention branch."""
        return self.attn(rms_norm(x_BTD), context)[0]

    def feed_forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Output of the MLP branch."""
        return self.mlp(rms_norm(x_BTD), context)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        x_BTD = context.wanted(x_BTD) + self.attention(x_BTD, context)
        return x_BTD + self.feed_forward(x_BTD, context)
