"""Grouped-query attention with QK-norm, per-head query gain and rotary positions: the challenge baseline's mixer.

q, k, v = W x;  q, k <- rms(q), rms(k);  q, k <- rope;  q <- gain * q;  softmax(q k / sqrt(E)) v;  W_o.  Query head j
reads key/value head floor(j K / H). Causal. Grouped queries: arXiv:2305.13245; QK-norm: arXiv:2010.04245.
Additions at their places: `context.values` change v, `xsa` and then `gate` change what the heads return.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.attention.causal import attention_at
from golf.models.context import Context, at_positions
from golf.models.layers import Linear, rms_norm
from golf.models.rope import rotate


class GroupedQueryAttention(nn.Module):
    """Causal self-attention: [B, T, D] -> [B, T, D].

    Args:
        width: D. num_heads: H, divides D. num_kv_heads: K, divides H.
        qk_gain: initial value of the per-head query gain (1.5 in the baseline, 4 to 5.25 in April).
        backend: (q [B, H, T, E], k, v [B, K, T, E], context) -> y [B, H, T, E].
        xsa: (y, v, context) -> y. gate: module (y, x [B, T, D]) -> y. None = without.
    """

    roles: ClassVar[dict[str, str]] = {"q_gain": "scalar"}
    restrictable: ClassVar[bool] = True
    mixes_values: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        num_heads: int,
        num_kv_heads: int,
        backend: Callable[..., Tensor],
        qk_gain: float = 1.5,
        xsa: Callable[..., Tensor] | None = None,
        gate: nn.Module | None = None,
    ):
        super().__init__()
        if width % num_heads or (width // num_heads) % 2:
            raise UserError(f"model.num_heads={num_heads} must divide model.width={width} into even head widths")
        if num_heads % num_kv_heads:
            raise UserError(f"model.num_kv_heads={num_kv_heads} must divide model.num_heads={num_heads}")
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, width // num_heads
        self.add_projections(width, num_kv_heads * self.head_width)
        self.proj = Linear(width, width, zero=True)
        self.q_gain = nn.Parameter(torch.full((num_heads,), qk_gain))
        self.backend, self.xsa, self.gate = backend, xsa, gate

    def add_projections(self, width: int, kv_width: int) -> None:
        """The matrices that `project` uses."""
        self.c_q = Linear(width, width)
        self.c_k = Linear(width, kv_width)
        self.c_v = Linear(width, kv_width)

    def heads(self, x_BTC: Tensor) -> Tensor:
        """[B, T, heads * E] -> [B, heads, T, E]."""
        return x_BTC.unflatten(-1, (-1, self.head_width)).transpose(1, 2)

    def project(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, S, D] of the wanted positions, keys and values [B, T, K E], of normalised inputs."""
        return self.c_q(context.wanted(x_BTD), context), self.c_k(x_BTD, context), self.c_v(x_BTD, context)

    def attend(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        """What the heads return [B, H, T, E], of queries and keys that are normalised and rotated."""
        return self.backend(q_BHTE, k_BKTE, v_BKTE, context)

    def forward(self, x_BTD: Tensor, context: Context, state: Any = None) -> tuple[Tensor, Any]:
        q_BTD, k_BTC, v_BTC = self.project(x_BTD, context)
        if context.values is not None:
            v_BTC = context.values.mix(v_BTC, context)
        q_BHTE, k_BKTE, v_BKTE = (self.heads(x_BTC) for x_BTC in (q_BTD, k_BTC, v_BTC))
        cos_TR, sin_TR = context.cos_TR, context.sin_TR
        k_BKTE = rotate(rms_norm(k_BKTE), cos_TR, sin_TR)
        at_BS = context.positions_BS
        if at_BS is not None:
            cos_TR, sin_TR = cos_TR[at_BS][:, None], sin_TR[at_BS][:, None]
        q_BHTE = rotate(rms_norm(q_BHTE), cos_TR, sin_TR) * self.q_gain.to(q_BHTE.dtype)[:, None, None]
        if at_BS is None:
            y_BHTE = self.attend(q_BHTE, k_BKTE, v_BKTE, context)
        else:
            y_BHTE = attention_at(q_BHTE, k_BKTE, v_BKTE, at_BS)
            v_BKTE = self.heads(at_positions(v_BTC, at_BS))
        if self.xsa is not None:
            y_BHTE = self.xsa(y_BHTE, v_BKTE, context)
        if self.gate is not None:
            y_BHTE = self.gate(y_BHTE, context.wanted(x_BTD))
        return self.proj(y_BHTE.transpose(1, 2).flatten(2), context), state
