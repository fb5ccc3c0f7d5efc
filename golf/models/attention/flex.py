"""Attention by PyTorch's FlexAttention: a compiled kernel that skips what a document mask hides. For compiled GPU runs.

Runs eagerly and on CPUs, too, but slowly, and trains on GPUs only. Legend: H heads, K key/value heads, T time, E head
width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.errors import UserError
from golf.models.attention.documents import segment_starts
from golf.models.context import Context


class Flex:
    """The `flex` backend: queries [B, H, T, E], keys and values [B, K, T, E] -> [B, H, T, E].

    Raises:
        UserError: this PyTorch has no FlexAttention.
    """

    restrictable: ClassVar[bool] = True  # plain causal attention: `attention_at` computes the same

    def __init__(self) -> None:
        try:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        except ImportError as error:
            raise UserError(
                "model/backend=flex needs torch.nn.attention.flex_attention; type model/backend=sdpa"
            ) from error
        self.attend, self.create_mask = flex_attention, create_block_mask

    def __call__(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        T, device = q_BHTE.shape[2], q_BHTE.device
        if device.type == "cpu" and torch.is_grad_enabled() and q_BHTE.requires_grad:
            raise UserError("model/backend=flex has no backward pass on CPUs; type model/backend=sdpa to train on one")
        # The mask depends on the batch, not on the visit: it is made once per forward.
        mask = None if context.shared is None else context.shared.get("flex_mask")
        if mask is None:
            starts_T = (
                torch.zeros(T, dtype=torch.int32, device=device)
                if context.cu_seqlens_S is None
                else segment_starts(context.cu_seqlens_S, T)
            )

            def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
                return (key <= query) & (key >= starts_T[query])

            mask = self.create_mask(visible, None, None, T, T, device=device)
            if context.shared is not None:
                context.shared["flex_mask"] = mask
        return self.attend(q_BHTE, k_BKTE, v_BKTE, block_mask=mask, enable_gqa=q_BHTE.shape[1] != k_BKTE.shape[1])
