"""MLP with a power of leaky ReLU: W_proj(leaky_relu(W_fc x, slope)^p). With p = 2 negative inputs keep a gradient.

slope 0.5 and p = 2 is what the challenge's records from 23 March 2026 use; slope 0 is `relu_power`.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.layers import Linear


class LeakyReluPower(nn.Module):
    """[B, T, D] -> [B, T, D] through `hidden` units; `power` is a positive integer, `slope` is for negatives."""

    restrictable: ClassVar[bool] = True

    def __init__(self, width: int, hidden: int, power: int = 2, slope: float = 0.5):
        super().__init__()
        self.power, self.slope = power, slope
        self.fc = Linear(width, hidden)
        self.proj = Linear(hidden, width, zero=True)

    def forward(self, x_BTD: Tensor, context: Any = None) -> Tensor:
        h_BTF = F.leaky_relu(self.fc(x_BTD, context), self.slope)
        y_BTF = h_BTF
        for _ in range(self.power - 1):
            y_BTF = y_BTF * h_BTF
        return self.proj(y_BTF, context)
