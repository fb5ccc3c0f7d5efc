"""Token embedding: a table [V, D]. The baseline holds it (and its Adam moments) in bfloat16; that is a switch here."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenEmbedding(nn.Embedding):
    """ids [B, T] -> [B, T, D]; as a tied head: hidden [.., D] -> logits [.., V].

    Args:
        table_dtype: "float32" or "bfloat16" (the records' choice; the optimizer's moments follow it).
    """

    roles: ClassVar[dict[str, str]] = {"weight": "embedding"}

    def __init__(self, vocab_size: int, width: int, table_dtype: str = "float32"):
        super().__init__(vocab_size, width)
        self.table_dtype = getattr(torch, table_dtype)

    def logits(self, x: Tensor) -> Tensor:
        """Tied output head, multiplied in the dtype of x."""
        return F.linear(x, self.weight.to(x.dtype))
