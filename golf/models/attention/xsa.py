"""Exclusive self-attention, XSA (arXiv:2603.09078): each head's output loses its component along its own value.

n_t = v_t / max(|v_t|, 1e-12) per key/value head;  y <- y - (y · n) n.  The leaderboard's "XSA" is this; it has nothing
to do with cross-sequence attention, although the letters are read that way, too. Norm and dot product in float32.
Legend: B batch, T time, H heads, K key/value heads, G query heads per key/value head, E head width.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from golf.errors import UserError
from golf.models.context import Context


class ExclusiveSelfAttention:
    """Applied in the last visits of the network.

    Args:
        last_n: how many visits, counted from the end; None = all. Not per block: of a looped block only the later
            visits may have it.
        count: "visit", or "block" to count blocks instead (the record of 31 March 2026, where they are not the same).
    Raises:
        UserError: when run, `last_n` is more than there are.
    """

    restrictable: ClassVar[bool] = True

    def __init__(self, last_n: int | None = None, count: str = "visit"):
        if count not in ("visit", "block"):
            raise UserError(f"model.xsa.count={count} is not known: type model.xsa.count=visit or block")
        if last_n is not None and last_n < 0:
            raise UserError(f"model.xsa.last_n={last_n} must be at least 0; type model.xsa=none to switch XSA off")
        self.last_n, self.count = last_n, count

    def applies(self, context: Context) -> bool:
        if self.last_n is None:
            return True
        index, total = (context.visit, context.depth) if self.count == "visit" else (context.block, context.blocks)
        if self.last_n > total:
            raise UserError(
                f"model.xsa.last_n={self.last_n}, but the network has {total} {self.count}s; "
                f"type model.xsa.last_n={total}"
            )
        return index >= total - self.last_n

    def __call__(self, y_BHTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        if not self.applies(context):
            return y_BHTE
        n_BK1TE = F.normalize(v_BKTE.float(), dim=-1).unsqueeze(2)
        y_BKGTE = y_BHTE.unflatten(1, (v_BKTE.shape[1], -1)).float()
        y_BKGTE = y_BKGTE - (y_BKGTE * n_BK1TE).sum(-1, keepdim=True) * n_BK1TE
        return y_BKGTE.flatten(1, 2).to(y_BHTE.dtype)
