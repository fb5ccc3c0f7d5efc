"""Shared value embedding: a second embedding of the token, added to the values of a few layers (22 March 2026).

t = scale · W_proj table[ids] with a table [V, C];  v <- v + s_i t in block i, s_i learned per block. The sum is what
attention mixes and what XSA removes. Legend: B batch, T time, C columns, K E width of all values.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from golf.models.bigram.hashed import HashTable
from golf.models.context import Context
from golf.models.layers import Linear


class ValueEmbedding(nn.Module):
    """mix(v [B, T, K E], context) -> v.

    Args:
        columns: C (128 in the records). blocks: where it is added. scale: initial value of the learned factor.
        std: standard deviation of the initial table. table_dtype: "float32" or "bfloat16" (the records' choice).
    """

    roles: ClassVar[dict[str, str]] = {"scale": "scalar"}

    def __init__(
        self,
        vocab_size: int,
        kv_width: int,
        columns: int = 128,
        blocks: Sequence[int] = (9, 10),
        scale: float = 0.1,
        std: float = 0.01,
        table_dtype: str = "float32",
    ):
        super().__init__()
        self.embed = HashTable(vocab_size, columns, table_dtype, std)
        self.proj = Linear(columns, kv_width)
        nn.init.zeros_(self.proj.weight)
        self.scale = nn.Parameter(torch.tensor(scale))
        self.blocks = list(blocks)
        self.block_scales = nn.ModuleList(BlockScale() for _ in self.blocks)

    def mix(self, v_BTC: Tensor, context: Context) -> Tensor:
        if context.block not in self.blocks:
            return v_BTC
        notes = {} if context.shared is None else context.shared
        if "value_embedding" not in notes:
            t_BTC = self.proj(self.embed(context.ids_BT)) * self.scale.to(self.embed.weight.dtype)
            notes["value_embedding"] = t_BTC.to(v_BTC.dtype)
        s = self.block_scales[self.blocks.index(context.block)].weight
        return v_BTC + s.to(v_BTC.dtype) * notes["value_embedding"]


class BlockScale(nn.Module):
    """One learned factor [1]."""

    roles: ClassVar[dict[str, str]] = {"weight": "scalar"}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
