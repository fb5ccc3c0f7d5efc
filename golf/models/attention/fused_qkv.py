"""Grouped-query attention with one fused matrix for queries, keys and values (record of 24 March 2026)."""

from typing import ClassVar

from torch import Tensor

from golf.models.attention.grouped_query import GroupedQueryAttention
from golf.models.context import Context
from golf.models.layers import Linear


class FusedQkvAttention(GroupedQueryAttention):
    """As `GroupedQueryAttention`, with c_qkv [D + 2 K E, D]: rows of the queries, then the keys', then the values'."""

    restrictable: ClassVar[bool] = True

    def add_projections(self, width: int, kv_width: int) -> None:
        self.sizes = [width, kv_width, kv_width]
        self.c_qkv = Linear(width, sum(self.sizes))

    def project(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        q_BTD, k_BTC, v_BTC = self.c_qkv(x_BTD, context).split(self.sizes, dim=-1)
        return context.wanted(q_BTD), k_BTC, v_BTC
