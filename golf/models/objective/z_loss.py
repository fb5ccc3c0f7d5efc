"""Cross entropy with a z-loss (arXiv:2204.02311): mean(nll) + weight · mean(lse²), lse = log sum exp of the logits.

Record of 24 March 2026, weight 1e-4. Scores never contain it: they are computed from the losses per token.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ZLoss(nn.Module):
    """loss(model, hidden [B, T, D], targets [B, T]) -> scalar in nats plus penalty."""

    def __init__(self, width: int, vocab_size: int, weight: float = 1e-4):
        super().__init__()
        self.weight = weight

    def forward(self, model: Any, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        logits_NV = model.logits(x_BTD).flatten(0, 1)
        lse_N = torch.logsumexp(logits_NV, dim=-1)
        target_N = logits_NV.gather(-1, targets_BT.flatten()[:, None])[:, 0]
        return (lse_N - target_N).mean() + self.weight * lse_N.square().mean()
