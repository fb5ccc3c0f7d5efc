"""Grouped-query attention with QK-norm, per-head query gain and rotary positions: the challenge baseline's mixer.

q, k, v = W x;  q, k <- rms(q), rms(k);  q, k <- rope;  q <- gain * q;  softmax(q k / sqrt(E)) v;  W_o.  Query head j
reads key/value head floor(j K / H). Causal. Grouped queries: arXiv:2305.13245; QK-norm: arXiv:2010.04245.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.attention.causal import causal_attention
from golf.models.context import Context
from golf.models.layers import Linear, rms_norm
from golf.models.rope import rotate


class GroupedQueryAttention(nn.Module):
    """Causal self-attention: [B, T, D] -> [B, T, D].

    Args:
        width: D. num_heads: H, divides D. num_kv_heads: K, divides H.
        qk_gain: initial value of the per-head query gain (1.5 in the baseline).
    """

    roles: ClassVar[dict[str, str]] = {"q_gain": "scalar"}

    def __init__(self, width: int, num_heads: int, num_kv_heads: int, qk_gain: float = 1.5):
        super().__init__()
        if width % num_heads or (width // num_heads) % 2:
            raise UserError(f"model.num_heads={num_heads} must divide model.width={width} into even head widths")
        if num_heads % num_kv_heads:
            raise UserError(f"model.num_kv_heads={num_kv_heads} must divide model.num_heads={num_heads}")
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, width // num_heads
        kv_width = num_kv_heads * self.head_width
        self.c_q = Linear(width, width)
        self.c_k = Linear(width, kv_width)
        self.c_v = Linear(width, kv_width)
        self.proj = Linear(width, width, zero=True)
        self.q_gain = nn.Parameter(torch.full((num_heads,), qk_gain))

    def forward(self, x_BTD: Tensor, context: Context, state: Any = None) -> tuple[Tensor, Any]:
        B, T, D = x_BTD.shape
        q_BHTE = self.c_q(x_BTD).view(B, T, self.num_heads, self.head_width).transpose(1, 2)
        k_BKTE = self.c_k(x_BTD).view(B, T, self.num_kv_heads, self.head_width).transpose(1, 2)
        v_BKTE = self.c_v(x_BTD).view(B, T, self.num_kv_heads, self.head_width).transpose(1, 2)
        q_BHTE = rotate(rms_norm(q_BHTE), context.cos_TE2, context.sin_TE2)
        k_BKTE = rotate(rms_norm(k_BKTE), context.cos_TE2, context.sin_TE2)
        q_BHTE = q_BHTE * self.q_gain.to(q_BHTE.dtype)[:, None, None]
        y_BHTE = causal_attention(q_BHTE, k_BKTE, v_BKTE)
        return self.proj(y_BHTE.transpose(1, 2).reshape(B, T, D)), state
