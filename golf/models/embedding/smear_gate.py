"""Smear gate: each position takes in a learned share of the position before it, per channel.

y_t = (1 - g) x_t + g x_{t-1},  x_{-1} = 0,  g = sigmoid(gate) per channel, gate = 0 at the start (g = 1/2). Applied
after the first norm; the result is the input of the first block and of every x0 mix. Variant B of the challenge's
records of 20 to 25 March 2026. It blends across document starts, as the records do.

Legend: B batch, T time, D width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmearGate(nn.Module):
    """[B, T, D] -> [B, T, D]; `gate` is the initial value of the gate before its sigmoid."""

    roles: ClassVar[dict[str, str]] = {"gate": "gate"}

    def __init__(self, width: int, gate: float = 0.0):
        super().__init__()
        self.gate = nn.Parameter(torch.full((width,), gate))

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        share = torch.sigmoid(self.gate.to(x_BTD.dtype))
        previous_BTD = F.pad(x_BTD[:, :-1], (0, 0, 1, 0))
        return (1.0 - share) * x_BTD + share * previous_BTD
