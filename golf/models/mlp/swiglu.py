"""MLP with a gated linear unit, SwiGLU (arXiv:2002.05202): W_proj (silu(W_gate x) * W_fc x).

Three matrices: for the parameters of a plain MLP take two thirds of its hidden units (640 for 1024 with headroom).
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.layers import Linear


class SwiGlu(nn.Module):
    """[B, T, D] -> [B, T, D] through `hidden` units."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = Linear(width, hidden)
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        return self.proj(F.silu(self.gate(x_BTD, context)) * self.fc(x_BTD, context), context)
