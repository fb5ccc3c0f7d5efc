"""Smear gate computed from the input (records of 16 and 27 April 2026), on raw embeddings before the first norm.

y_t = x_t + λ sigmoid(w · x_t[:n]) x_{t-1} for t >= 1; λ and w are 0 at the start, so it begins as the identity. Without
`mask_document_start` the last token of a document leaks into the next one's start in packed rows (the fix of 27 April).
Legend: B batch, T time, D width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InputSmearGate(nn.Module):
    """[B, T, D] -> [B, T, D].

    Args:
        inputs: leading channels that the gate reads (12 in the records).
        mask_document_start: nothing flows into a token of id `bos_id`.
        trained: False leaves it the identity (record of 16 April 2026, whose gate was in no optimizer group).
    """

    roles: ClassVar[dict[str, str]] = {"weight": "gate", "share": "scalar"}
    before_norm: ClassVar[bool] = True

    def __init__(
        self, width: int, inputs: int = 12, mask_document_start: bool = True, bos_id: int = 1, trained: bool = True
    ):
        super().__init__()
        self.inputs = min(inputs, width)
        self.weight = nn.Parameter(torch.zeros(1, self.inputs), requires_grad=trained)
        self.share = nn.Parameter(torch.zeros(1), requires_grad=trained)
        self.mask_document_start, self.bos_id = mask_document_start, bos_id

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        g_BT1 = torch.sigmoid(F.linear(x_BTD[:, 1:, : self.inputs], self.weight.to(x_BTD.dtype)))
        g_BT1 = self.share.to(x_BTD.dtype) * g_BT1
        if self.mask_document_start:
            g_BT1 = g_BT1 * (ids_BT[:, 1:] != self.bos_id).unsqueeze(-1)
        return torch.cat((x_BTD[:, :1], x_BTD[:, 1:] + g_BT1 * x_BTD[:, :-1]), dim=1)
