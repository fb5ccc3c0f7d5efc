"""Residual block of the baseline: re-mix the stream with the embedding, then scaled attention, then a scaled MLP.

x <- m0 * x + m1 * x0;  x <- x + a * Attention(rms(x));  x <- x + b * MLP(rms(x)), all vectors per channel.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from golf.models.context import Context
from golf.models.layers import rms_norm


class X0MixBlock(nn.Module):
    """[B, T, D] -> [B, T, D]; `attn` is a mixer, `mlp` maps [B, T, D] to [B, T, D]."""

    roles: ClassVar[dict[str, str]] = {"attn_scale": "scalar", "mlp_scale": "scalar", "resid_mix": "scalar"}

    def __init__(self, width: int, attn: nn.Module, mlp: nn.Module):
        super().__init__()
        self.attn, self.mlp = attn, mlp
        self.attn_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        mix = self.resid_mix.to(x_BTD.dtype)
        x_BTD = mix[0] * x_BTD + mix[1] * context.x0_BTD
        y_BTD, _ = self.attn(rms_norm(x_BTD), context)
        x_BTD = x_BTD + self.attn_scale.to(x_BTD.dtype) * y_BTD
        return x_BTD + self.mlp_scale.to(x_BTD.dtype) * self.mlp(rms_norm(x_BTD))
