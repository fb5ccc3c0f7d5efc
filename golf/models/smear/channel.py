"""Smear gates per channel: each position takes in a learned share of the position before it.

B (20 March 2026): y_t = (1 - g) x_t + g x_{t-1}, gate 0 (g = 1/2) at the start, after the first norm; the result is the
input of the first block and of every x0 mix.  A (19 March): y_t = g x_t + (1 - g) x_{t-1}, gate 3 (g = 0.95) at the
start, before the first norm.  g = sigmoid(gate), x_{-1} = 0. The records blend across document starts;
`mask_document_start` does not. Legend: B batch, T time, D width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmearGate(nn.Module):
    """Variant B: [B, T, D] -> [B, T, D].

    Args:
        gate: initial value of the gate before its sigmoid.
        mask_document_start: nothing flows into a token of id `bos_id`.
    """

    roles: ClassVar[dict[str, str]] = {"gate": "gate"}
    before_norm: ClassVar[bool] = False

    def __init__(self, width: int, gate: float = 0.0, mask_document_start: bool = False, bos_id: int = 1):
        super().__init__()
        self.gate = nn.Parameter(torch.full((width,), gate))
        self.mask_document_start, self.bos_id = mask_document_start, bos_id

    def previous(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        """The position before each, zero before the first (and before a document's first, if masked)."""
        previous_BTD = F.pad(x_BTD[:, :-1], (0, 0, 1, 0))
        return previous_BTD * (ids_BT != self.bos_id).unsqueeze(-1) if self.mask_document_start else previous_BTD

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        g_D = torch.sigmoid(self.gate.to(x_BTD.dtype))
        return (1.0 - g_D) * x_BTD + g_D * self.previous(x_BTD, ids_BT)


class EarlySmearGate(SmearGate):
    """Variant A: [B, T, D] -> [B, T, D], before the first norm."""

    before_norm: ClassVar[bool] = True

    def __init__(self, width: int, gate: float = 3.0, mask_document_start: bool = False, bos_id: int = 1):
        super().__init__(width, gate, mask_document_start, bos_id)

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        g_D = torch.sigmoid(self.gate).to(x_BTD.dtype)
        return g_D * x_BTD + (1.0 - g_D) * self.previous(x_BTD, ids_BT)
