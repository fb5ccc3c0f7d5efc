"""Mean cross entropy in chunks of tokens: logits exist for one chunk at a time, and once more for its gradient.

The same numbers as without it, for any head, softcap and device; what it costs is one more product with the head.
Legend: N tokens (batch x time), V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from golf.errors import UserError


class ChunkedCrossEntropy(nn.Module):
    """loss(model, hidden [B, T, D], targets [B, T]) -> scalar in nats. `rows`: tokens of a chunk."""

    def __init__(self, width: int, vocab_size: int, rows: int = 4096):
        super().__init__()
        if rows < 1:
            raise UserError(f"model.objective.rows={rows} must be at least 1; type model.objective.rows=4096")
        self.rows = rows

    def forward(self, model: Any, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        def sum_of(x_ND: Tensor, targets_N: Tensor) -> Tensor:
            return F.cross_entropy(model.logits(x_ND), targets_N, reduction="sum")

        targets_N = targets_BT.flatten()
        chunks = zip(x_BTD.flatten(0, 1).split(self.rows), targets_N.split(self.rows))
        options: Any = {"use_reentrant": False, "preserve_rng_state": False}
        sums = [checkpoint(sum_of, x_ND, chosen_N, **options) for x_ND, chosen_N in chunks]
        return torch.stack(sums).sum() / (targets_N != -100).sum()
