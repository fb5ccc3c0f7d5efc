"""Factored token embedding: a narrow table and two projections, with a bias per token (record of 24 March 2026).

in: W_up E[id];  out (tied): E W_down x + bias.  Table [V, r], r = 254 there. With `fp8`, the table's look-up and both
projections are rounded to float8 e4m3 with a straight-through gradient; the head uses the table unrounded.
Legend: V vocabulary, D width, r rank.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.embedding.token import TokenEmbedding
from golf.models.layers import Linear


class FactoredEmbedding(TokenEmbedding):
    """ids [B, T] -> [B, T, D]; as a tied head: hidden [.., D] -> logits [.., V].

    Args:
        rank: r. vocab_bias: learn a bias per token at the output, 0 at the start. fp8: see above.
    """

    roles: ClassVar[dict[str, str]] = {"weight": "embedding", "vocab_bias": "scalar"}

    def __init__(
        self,
        vocab_size: int,
        width: int,
        rank: int = 254,
        table_dtype: str = "float32",
        vocab_bias: bool = True,
        fp8: bool = False,
    ):
        super().__init__(vocab_size, rank, table_dtype)
        self.fp8 = fp8
        self.up = Linear(rank, width)
        self.down = Linear(width, rank)
        self.vocab_bias = nn.Parameter(torch.zeros(vocab_size)) if vocab_bias else None

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTr = super().forward(ids_BT).float()
        return F.linear(self.rounded(x_BTr), self.rounded(self.up.weight))

    def logits(self, x: Tensor) -> Tensor:
        z = F.linear(F.linear(x, self.rounded(self.down.weight).to(x.dtype)), self.weight.to(x.dtype))
        return z if self.vocab_bias is None else z + self.vocab_bias.to(x.dtype)

    def rounded(self, weight: Tensor) -> Tensor:
        if not self.fp8:
            return weight
        return weight + (weight.to(torch.float8_e4m3fn).to(weight.dtype) - weight).detach()
