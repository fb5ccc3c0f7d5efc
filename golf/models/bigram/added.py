"""Hashed bigram embedding, variant A of the records of 19 March 2026: added without a scale, hash by a sum.

index_t = (92821 · x_{t-1} + x_t) mod buckets in int64, x_{-1} = 0;  output = W_proj table[index], W_proj = 0 and the
table ~ N(0, 0.01²) at the start. Legend: B batch, T time, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.bigram.hashed import HashTable
from golf.models.layers import Linear

BIGRAM_SUM_PREVIOUS = 92821


def bigram_sum_buckets(ids_BT: Tensor, buckets: int) -> Tensor:
    """Bucket of each position [B, T] (int64) from its token and the one before (0 before the first)."""
    ids_BT = ids_BT.long()
    return torch.remainder(BIGRAM_SUM_PREVIOUS * F.pad(ids_BT[:, :-1], (1, 0)) + ids_BT, buckets)


class AddedBigram(nn.Module):
    """ids [B, T] -> [B, T, D], to be added to the token embedding before the first norm.

    Args:
        width: D. buckets: rows of the table. columns: its width. std: of the initial table.
        table_dtype: "float32" or "bfloat16" (the records' choice).
    """

    def __init__(
        self, width: int, buckets: int = 4096, columns: int = 128, std: float = 0.01, table_dtype: str = "float32"
    ):
        super().__init__()
        if buckets < 1:
            raise UserError(f"model.bigram.buckets={buckets} must be at least 1; type model.bigram.buckets=4096")
        self.buckets = buckets
        self.embed = HashTable(buckets, columns, table_dtype, std)
        self.proj = Linear(columns, width, zero=True)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.proj(self.embed(bigram_sum_buckets(ids_BT, self.buckets)))
