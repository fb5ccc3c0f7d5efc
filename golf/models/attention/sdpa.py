"""Attention by PyTorch's own kernels: causal, or causal within the documents of a packed row. Runs everywhere."""

from typing import ClassVar

from torch import Tensor

from golf.models.attention.causal import causal_attention
from golf.models.attention.documents import document_attention
from golf.models.context import Context


class Sdpa:
    """The default backend: queries [B, H, T, E], keys and values [B, K, T, E] -> [B, H, T, E]."""

    restrictable: ClassVar[bool] = True  # plain causal attention: `attention_at` computes the same

    def __call__(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        if context.cu_seqlens_S is None:
            return causal_attention(q_BHTE, k_BKTE, v_BKTE)
        return document_attention(q_BHTE, k_BKTE, v_BKTE, context.cu_seqlens_S, context.max_seqlen)
