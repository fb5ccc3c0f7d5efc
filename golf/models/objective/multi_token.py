"""Multi-token prediction (arXiv:2404.19737): further heads predict later tokens from the same hidden state.

Head k (0-based) predicts the token k + 2 positions ahead; loss = cross entropy + weight · mean over heads of theirs.
The heads exist in training only: they are not exported. A switch of the records of 20 March 2026, weight 0.2, off in
the submitted runs. Legend: B batch, T time, D width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.layers import HeadLinear


class MultiTokenPrediction(nn.Module):
    """loss(model, hidden [B, T, D], targets [B, T]) -> scalar. `heads`: how many; `weight`: of their mean loss."""

    def __init__(self, width: int, vocab_size: int, heads: int = 1, weight: float = 0.2):
        super().__init__()
        if heads < 1:
            raise UserError(f"model.objective.heads={heads} must be at least 1; type model/objective=none for none")
        self.weight = weight
        self.heads = nn.ModuleList(HeadLinear(width, vocab_size, zero=True) for _ in range(heads))

    def forward(self, model: Any, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        loss = F.cross_entropy(model.logits(x_BTD).flatten(0, 1), targets_BT.flatten())
        extra = []
        for k, head in enumerate(self.heads):
            if targets_BT.shape[1] > k + 1:
                logits_NV = model.softcap(head(x_BTD[:, : -(k + 1)]).float()).flatten(0, 1)
                extra.append(F.cross_entropy(logits_NV, targets_BT[:, k + 1 :].flatten()))
        return loss + self.weight * torch.stack(extra).mean() if extra else loss
