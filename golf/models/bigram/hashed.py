"""Hashed bigram embedding: a second table, indexed by a hash of the last two tokens, added to the token embedding.

index_0 = M;  index_t = ((36313 · x_t) xor (27191 · x_{t-1})) mod M  for t >= 1, in int32, with M = buckets - 1;
output_t = scale · W_proj table[index_t].  The last bucket means "no previous token". Variant B of the challenge's
records of 20 to 25 March 2026 (4,096, 10,240 or 2,048 buckets of width 128); the table starts at zero.

Legend: B batch, T time, D width.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.layers import Linear

BIGRAM_HASH_CURRENT = 36313
BIGRAM_HASH_PREVIOUS = 27191


def bigram_buckets(ids_BT: Tensor, buckets: int) -> Tensor:
    """Bucket of each position [B, T] (int32) from its token and the one before; the first position has none."""
    last = buckets - 1
    ids_BT = ids_BT.to(torch.int32)
    mixed = torch.bitwise_xor(BIGRAM_HASH_CURRENT * ids_BT[:, 1:], BIGRAM_HASH_PREVIOUS * ids_BT[:, :-1])
    return torch.cat((torch.full_like(ids_BT[:, :1], last), torch.remainder(mixed, last)), dim=1)


class HashTable(nn.Embedding):
    """Table [rows, columns], zero at the start or ~ N(0, std²); `table_dtype` as for the token embedding."""

    roles: ClassVar[dict[str, str]] = {"weight": "table"}

    def __init__(self, rows: int, columns: int, table_dtype: str = "float32", std: float = 0.0):
        super().__init__(rows, columns)
        self.table_dtype = getattr(torch, table_dtype)
        if std:
            nn.init.normal_(self.weight, std=std)
        else:
            nn.init.zeros_(self.weight)


class BigramHash(nn.Module):
    """ids [B, T] -> [B, T, D], to be added to the token embedding before the first norm.

    Args:
        width: D. buckets: rows of the table, at least 2. columns: its width.
        scale: initial value of the learned factor.
        table_dtype: "float32" or "bfloat16" (the records' choice); the projection is multiplied in it.
    """

    roles: ClassVar[dict[str, str]] = {"scale": "scalar"}

    def __init__(
        self,
        width: int,
        buckets: int = 4096,
        columns: int = 128,
        scale: float = 0.05,
        table_dtype: str = "float32",
    ):
        super().__init__()
        if buckets < 2:
            raise UserError(f"bigram buckets={buckets} must be at least 2 (one is reserved for the first position)")
        self.buckets = buckets
        self.embed = HashTable(buckets, columns, table_dtype)
        self.proj = Linear(columns, width)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.proj(self.embed(bigram_buckets(ids_BT, self.buckets)))
        return self.scale.to(x_BTD.dtype) * x_BTD
