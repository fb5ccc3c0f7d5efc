"""Gates on the outputs of attention heads, computed from the normalised input of attention.

dense (19 April 2026): sigmoid(W x), W [H, D] ~ N(0, std²);  sparse (23 April): sigmoid(scale · W x[:n]), W [H, n] = 0;
double (16 April): 2 sigmoid(W x[:n]), W = 0, so that the gate starts at one.  After XSA, before the output projection.
Legend: B batch, T time, D width, H heads, E head width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError


class HeadGate(nn.Module):
    """y_h <- factor · sigmoid(scale · W_h x[:inputs]) · y_h.

    Args:
        width: D. num_heads: H.
        inputs: leading channels of x that the gate reads; None = all.
        scale, factor: see above.
        std: standard deviation of the initial weights; 0 = zeros, and no random draw.
    """

    roles: ClassVar[dict[str, str]] = {"weight": "gate"}
    restrictable: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        num_heads: int,
        inputs: int | None = None,
        scale: float = 1.0,
        factor: float = 1.0,
        std: float = 0.0,
    ):
        super().__init__()
        self.inputs = width if inputs is None else inputs
        if not 1 <= self.inputs <= width:
            raise UserError(f"model.gate.inputs={inputs} must be between 1 and model.width={width}")
        self.scale, self.factor, self.std = scale, factor, std
        self.weight = nn.Parameter(torch.zeros(num_heads, self.inputs))
        if std:
            nn.init.normal_(self.weight, std=std)

    def forward(self, y_BHTE: Tensor, x_BTD: Tensor) -> Tensor:
        g_BTH = F.linear(x_BTD[..., : self.inputs], self.weight.to(x_BTD.dtype))
        g_BTH = torch.sigmoid(g_BTH if self.scale == 1.0 else self.scale * g_BTH)
        if self.factor != 1.0:
            g_BTH = self.factor * g_BTH
        return y_BHTE * g_BTH.transpose(1, 2).unsqueeze(-1)
