"""U-Net skips: how the output of an earlier visit is added to the stream before a later one.

The depth plan decides which visits push and pop, and which row of the weights a pop uses. Legend: S rows, D width.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn


class PlainSkips(nn.Module):
    """x + w ⊙ skip, w = 1 at the start: the challenge's baseline."""

    roles: ClassVar[dict[str, str]] = {"weights": "scalar"}

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(rows, width))

    def forward(self, x_BTD: Tensor, skip_BTD: Tensor, row: int) -> Tensor:
        return x_BTD + self.weights[row].to(x_BTD.dtype) * skip_BTD


class GatedSkips(PlainSkips):
    """(1 - g) ⊙ (w ⊙ skip) + g ⊙ x with g = sigmoid(gate), 1/2 at the start (records from 31 March 2026)."""

    roles: ClassVar[dict[str, str]] = {"weights": "scalar", "gates": "scalar"}

    def __init__(self, rows: int, width: int):
        super().__init__(rows, width)
        self.gates = nn.Parameter(torch.zeros(rows, width))

    def forward(self, x_BTD: Tensor, skip_BTD: Tensor, row: int) -> Tensor:
        g_D = torch.sigmoid(self.gates[row].to(x_BTD.dtype))
        return (1.0 - g_D) * (self.weights[row].to(x_BTD.dtype) * skip_BTD) + g_D * x_BTD
