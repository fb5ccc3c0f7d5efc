"""Residual block of the baseline: re-mix the stream with the embedding, then scaled attention, then a scaled MLP.

x <- m0 * x + m1 * x0;  x <- x + a * Attention(c rms(x));  x <- x + b * MLP(c rms(x)), all vectors per channel;
c = 1, or 1/sqrt(i + 1) in block i (norm scale, records from 21 March 2026).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from golf.models.context import Context
from golf.models.layers import rms_norm


class X0MixBlock(nn.Module):
    """[B, T, D] -> [B, T, D]; `attn` is a mixer, `mlp` maps [B, T, D] to [B, T, D].

    Args:
        block: index i of this block.
        norm_scale: multiply both norms by 1/sqrt(i + 1).
        attention_free: blocks whose attention is left out (31 March 2026: [0]); their parameters stay, unused.
    """

    roles: ClassVar[dict[str, str]] = {"attn_scale": "scalar", "mlp_scale": "scalar", "resid_mix": "scalar"}
    restrictable: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        attn: nn.Module,
        mlp: nn.Module,
        block: int = 0,
        norm_scale: bool = False,
        attention_free: Sequence[int] = (),
    ):
        super().__init__()
        self.attn, self.mlp = attn, mlp
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))
        self.norm_factor = (block + 1) ** -0.5 if norm_scale else None
        self.attends = block not in attention_free

    def normed(self, x_BTD: Tensor) -> Tensor:
        return rms_norm(x_BTD) if self.norm_factor is None else rms_norm(x_BTD) * self.norm_factor

    def read(self, x_BTD: Tensor, context: Context) -> Tensor:
        """What this block's branches read from the stream: its mixture with the embedding."""
        mix = self.resid_mix.to(x_BTD.dtype)
        return mix[0] * x_BTD + mix[1] * context.x0_BTD

    def attention(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Scaled output of the attention branch."""
        return self.attn_scale.to(x_BTD.dtype) * self.attn(self.normed(x_BTD), context)[0]

    def feed_forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Scaled output of the MLP branch."""
        return self.mlp_scale.to(x_BTD.dtype) * self.mlp(self.normed(x_BTD), context)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        x_BTD = self.read(x_BTD, context)
        y_BTD = context.wanted(x_BTD)
        if self.attends:
            y_BTD = y_BTD + self.attention(x_BTD, context)
        return y_BTD + self.feed_forward(y_BTD, context)
