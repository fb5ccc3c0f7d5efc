"""Plain pre-norm residual block: x <- x + Attention(rms(x)); x <- x + MLP(rms(x)). The control for residual ideas."""

from torch import Tensor, nn

from golf.models.context import Context
from golf.models.layers import rms_norm


class PreNormBlock(nn.Module):
    """[B, T, D] -> [B, T, D] without any learned residual parameter."""

    def __init__(self, width: int, attn: nn.Module, mlp: nn.Module):
        super().__init__()
        self.attn, self.mlp = attn, mlp

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        y_BTD, _ = self.attn(rms_norm(x_BTD), context)
        x_BTD = x_BTD + y_BTD
        return x_BTD + self.mlp(rms_norm(x_BTD))
