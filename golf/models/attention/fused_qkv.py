"""Grouped-query attention with one fused matrix for queries, keys and values (record of 24 March 2026)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from golf.models.attention.grouped_query import GroupedQueryAttention
from golf.models.context import Context
from golf.models.layers import Linear


class FusedQkvAttention(GroupedQueryAttention):
    """As `GroupedQueryAttention`, with c_qkv [D + 2 K E, D]: rows of the queries, then the keys', then the values'."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        num_kv_heads: int,
        backend: Callable[..., Tensor],
        qk_gain: float = 1.5,
        values: list[Any] | None = None,
        xsa: Callable[..., Tensor] | None = None,
        gate: nn.Module | None = None,
    ):
        super().__init__(width, num_heads, num_kv_heads, backend, qk_gain, values, xsa, gate)
        kv_width = num_kv_heads * self.head_width
        self.sizes = [width, kv_width, kv_width]
        del self.c_q, self.c_k, self.c_v
        self.c_qkv = Linear(width, sum(self.sizes))

    def project(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        q_BTD, k_BTC, v_BTC = self.c_qkv(x_BTD, context).split(self.sizes, dim=-1)
        return q_BTD, k_BTC, v_BTC
