"""MLP with GELU (arXiv:1606.08415): W_proj gelu(W_fc x)."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.layers import Linear


class Gelu(nn.Module):
    """[B, T, D] -> [B, T, D] through `hidden` units; `approximate`: "none" (exact) or "tanh"."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, hidden: int, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        return self.proj(F.gelu(self.fc(x_BTD, context), approximate=self.approximate), context)
