"""Causal attention within documents of one packed row, in plain PyTorch: static shapes, so nothing is recompiled.

A position sees the positions of its own segment up to itself. With segments of at most M tokens, no query sees further
back than the block of M tokens before its own: the row is cut into blocks, each attends to itself and its predecessor.
That costs 2 T M products instead of T². Legend: H heads, K key/value heads, T time, E head width, S boundaries,
N blocks, M longest segment.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.errors import UserError


def segment_starts(cu_seqlens_S: Tensor, length: int) -> Tensor:
    """First position [T] of the segment that each position of a row of `length` tokens is in."""
    positions_T = torch.arange(length, device=cu_seqlens_S.device, dtype=cu_seqlens_S.dtype)
    return cu_seqlens_S[torch.searchsorted(cu_seqlens_S, positions_T, right=True) - 1]


def check_documents(cu_seqlens_S: Tensor, ids_BT: Tensor, max_seqlen: int) -> None:
    """Boundaries that are on the CPU (asking a GPU would halt it) fit their row, and its segments `max_seqlen`.

    Raises:
        UserError: they do not.
    """
    if cu_seqlens_S.device.type != "cpu":
        return
    row, last = ids_BT.numel(), int(cu_seqlens_S[-1])
    if last != row or int(cu_seqlens_S[0]) != 0:
        raise UserError(
            f"document boundaries from {int(cu_seqlens_S[0])} to {last} do not fit a row of {row} tokens: "
            f"cu_seqlens begins with 0 and ends with {row}; type data/order=packed, which makes them so"
        )
    longest = int(cu_seqlens_S.diff().max())
    if max_seqlen and longest > max_seqlen:
        raise UserError(
            f"a document segment of {longest} tokens is longer than max_seqlen={max_seqlen}, which attention looks "
            f"back; type data.seq_len={longest} or more, or cut segments as golf.data.packed.segment_boundaries does"
        )


def document_attention(
    q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cu_seqlens_S: Tensor, max_seqlen: int = 0
) -> Tensor:
    """[1, H, T, E] in the dtype of v. Raises UserError for more than one row."""
    B, H, T, E = q_BHTE.shape
    if B != 1:
        raise UserError(f"document boundaries belong to one flat row, not to {B} rows; type data/order=packed")
    starts_T = segment_starts(cu_seqlens_S, T)
    positions_T = torch.arange(T, device=q_BHTE.device)
    M = max_seqlen
    if not M or T <= 2 * M or T % M:
        visible_TT = (positions_T[None, :] <= positions_T[:, None]) & (positions_T[None, :] >= starts_T[:, None])
        return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, attn_mask=visible_TT, enable_gqa=True)
    N, K = T // M, k_BKTE.shape[1]
    q_NHME = q_BHTE[0].unflatten(1, (N, M)).transpose(0, 1)
    k_NKSE, v_NKSE = (
        with_previous_block(x_BKTE[0].unflatten(1, (N, M)).transpose(0, 1)) for x_BKTE in (k_BKTE, v_BKTE)
    )
    queries_NM1 = positions_T.view(N, M, 1)
    keys_N1S = queries_NM1[:, :1] - M + torch.arange(2 * M, device=q_BHTE.device)
    visible_NMS = (keys_N1S <= queries_NM1) & (keys_N1S >= starts_T.view(N, M, 1))
    y_NHME = F.scaled_dot_product_attention(q_NHME, k_NKSE, v_NKSE, attn_mask=visible_NMS[:, None], enable_gqa=H != K)
    return y_NHME.transpose(0, 1).reshape(1, H, T, E)


def with_previous_block(x_NKME: Tensor) -> Tensor:
    """Each block behind its predecessor, [N, K, 2M, E]; zeros before the first."""
    previous = torch.cat((torch.zeros_like(x_NKME[:1]), x_NKME[:-1]))
    return torch.cat((previous, x_NKME), dim=2)
