"""Attention by FlashAttention-3 (arXiv:2407.08608), the Hopper kernels that the records from 20 March 2026 use.

The package `flash_attn_interface` is imported when the backend is built. Packed rows go to the variable-length kernel.
Legend: H heads, K key/value heads, T time, E head width.
"""

from typing import ClassVar

from torch import Tensor

from golf.errors import UserError
from golf.models.context import Context


class FlashAttention3:
    """The `fa3` backend: queries [B, H, T, E], keys and values [B, K, T, E] -> [B, H, T, E].

    Raises:
        UserError: the package is not installed.
    """

    restrictable: ClassVar[bool] = True  # plain causal attention: `attention_at` computes the same

    def __init__(self) -> None:
        try:
            from flash_attn_interface import flash_attn_func, flash_attn_varlen_func  # type: ignore[import-not-found]
        except ImportError as error:
            raise UserError(
                "model/backend=fa3 needs FlashAttention-3 (package flash_attn_interface, Hopper GPUs), which is not "
                "installed; type model/backend=sdpa, the fall-back, or model/backend=flex on other GPUs (their cost: "
                "python benchmarks/gpu_records.py --backend sdpa)"
            ) from error
        self.dense, self.packed = flash_attn_func, flash_attn_varlen_func

    def __call__(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        q_BTHE, k_BTKE, v_BTKE = (x.transpose(1, 2) for x in (q_BHTE, k_BKTE, v_BKTE))
        if context.cu_seqlens_S is None:
            return self.dense(q_BTHE, k_BTKE, v_BTKE, causal=True).transpose(1, 2)
        if q_BHTE.shape[0] != 1:
            raise UserError("document boundaries belong to one flat row; type data/order=packed")
        longest = context.max_seqlen or q_BHTE.shape[2]
        boundaries = context.cu_seqlens_S
        y_THE = self.packed(
            q_BTHE[0], k_BTKE[0], v_BTKE[0], boundaries, boundaries, max_seqlen_q=longest, max_seqlen_k=longest,
            causal=True,
        )  # fmt: skip
        return y_THE[None].transpose(1, 2)
