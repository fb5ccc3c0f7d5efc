"""MLP with a power of ReLU: W_proj(relu(W_fc x)^p). p = 2 is the baseline (Primer, arXiv:2109.08668)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from golf.models.layers import Linear


class ReluPower(nn.Module):
    """[B, T, D] -> [B, T, D] through `hidden` units; `power` is a positive integer."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, hidden: int, power: int = 2):
        super().__init__()
        self.power = power
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        h_BTF = torch.relu(self.fc(x_BTD, context))
        y_BTF = h_BTF
        for _ in range(self.power - 1):
            y_BTF = y_BTF * h_BTF
        return self.proj(y_BTF, context)
