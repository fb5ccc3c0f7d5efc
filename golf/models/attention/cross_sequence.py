"""Cross-sequence attention: the deepest visits also attend to the keys and values of the window before.

For rows that are consecutive windows of one stream, in the last n visits:
    softmax over (keys of the window before at their distance, own keys up to the query)
Keys are those of the same visit, so that with n visits a window reaches n windows back, as in Transformer-XL
(arXiv:1901.02860). Only tokens that come before are seen, and in evaluation only scored ones. (What the leaderboard
calls XSA is exclusive self-attention, golf/models/attention/xsa.py; this is something else.)
Invariant: losses do not depend on how windows are cut into batches; without a memory (`GPT.nll_with_memory`, or
training with `train`) it is `GroupedQueryAttention`.
Legend: B batch, T time, H heads, K key/value heads, E head width, P time of the window before, R rotated width / 2.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.attention.grouped_query import GroupedQueryAttention
from golf.models.context import Context
from golf.models.rope import rotate


class CrossSequenceAttention(GroupedQueryAttention):
    """As `GroupedQueryAttention`, with memory.

    Args:
        last_n: visits, counted from the end, that attend to the window before.
        train: in training, too: row b sees row b - 1 (detached); rows are consecutive with data/order=sequential.
    """

    restrictable: ClassVar[bool] = True  # a forward with a memory wants all positions

    def __init__(
        self,
        width: int,
        num_heads: int,
        num_kv_heads: int,
        backend: Callable[..., Tensor],
        qk_gain: float = 1.5,
        xsa: Callable[..., Tensor] | None = None,
        gate: nn.Module | None = None,
        last_n: int = 1,
        train: bool = False,
    ):
        super().__init__(width, num_heads, num_kv_heads, backend, qk_gain, xsa, gate)
        if last_n < 1:
            raise UserError(f"model.attention.last_n={last_n} must be at least 1; type model/attention=grouped_query")
        self.last_n, self.remembers_in_training = last_n, train

    def attend(self, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, context: Context) -> Tensor:
        if self.last_n > context.depth:
            raise UserError(
                f"model.attention.last_n={self.last_n}, but the network has {context.depth} visits; "
                f"type model.attention.last_n={context.depth}"
            )
        memory = None if context.shared is None else context.shared.get("memory")
        if memory is None and self.training and self.remembers_in_training:
            memory = {}
        if memory is None or context.visit < context.depth - self.last_n or context.cu_seqlens_S is not None:
            return self.backend(q_BHTE, k_BKTE, v_BKTE, context)
        now = Remembered(k_BKTE.detach(), v_BKTE.detach(), *one_turn_more(context.cos_TR, context.sin_TR))
        before, exists_B = rows_before(now, memory.get(context.visit))
        memory[context.visit] = now.last_row()
        return attend_to_both(q_BHTE, k_BKTE, v_BKTE, before, exists_B)


class Remembered:
    """Rotated keys and values [B, K, P, E] of windows, and the angles [1, R] at which the next window begins."""

    def __init__(self, k_BKPE: Tensor, v_BKPE: Tensor, cos_1R: Tensor, sin_1R: Tensor):
        self.k_BKPE, self.v_BKPE, self.cos_1R, self.sin_1R = k_BKPE, v_BKPE, cos_1R, sin_1R

    def last_row(self) -> "Remembered":
        return Remembered(self.k_BKPE[-1:], self.v_BKPE[-1:], self.cos_1R, self.sin_1R)


def one_turn_more(cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [1, R] of the angles one position after the last of the tables (T >= 2)."""
    a, b, c, d = (table_TR[row].float() for row in (-1, min(1, len(cos_TR) - 1)) for table_TR in (cos_TR, sin_TR))
    return (a * c - b * d)[None].to(cos_TR.dtype), (b * c + a * d)[None].to(sin_TR.dtype)


def rows_before(now: Remembered, carried: Remembered | None) -> tuple[Remembered, Tensor]:
    """What each row finds in the row before it, and whether there is one [B]; `carried` is before the first."""
    exists_B = torch.ones(len(now.k_BKPE), dtype=torch.bool, device=now.k_BKPE.device)
    if carried is None:
        carried = Remembered(torch.zeros_like(now.k_BKPE[:1]), torch.zeros_like(now.v_BKPE[:1]), now.cos_1R, now.sin_1R)
        exists_B = torch.arange(len(exists_B), device=exists_B.device) > 0
    if len(now.k_BKPE) == 1:
        return carried, exists_B
    k_BKPE = torch.cat((carried.k_BKPE, now.k_BKPE[:-1]))
    return Remembered(k_BKPE, torch.cat((carried.v_BKPE, now.v_BKPE[:-1])), now.cos_1R, now.sin_1R), exists_B


def attend_to_both(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, before: Remembered, exists_B: Tensor) -> Tensor:
    """Softmax attention over the window before and the own past: [B, H, T, E]."""
    T, P = q_BHTE.shape[2], before.k_BKPE.shape[2]
    older_BKPE = rotate(before.k_BKPE, before.cos_1R, -before.sin_1R)  # turned back: they are P positions further away
    k_BKSE, v_BKSE = torch.cat((older_BKPE, k_BKTE), dim=2), torch.cat((before.v_BKPE, v_BKTE), dim=2)
    own_TT = torch.ones(T, T, dtype=torch.bool, device=q_BHTE.device).tril()
    older_BTP = exists_B[:, None, None].expand(-1, T, P)
    visible_BTS = torch.cat((older_BTP, own_TT.expand(len(exists_B), T, T)), dim=2)
    return F.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, attn_mask=visible_BTS[:, None], enable_gqa=True)
