"""Causal softmax attention, softmax(q kᵀ / sqrt(E)) v: PyTorch's fused kernel, except where it is slow.

The backward pass of the fused bfloat16 kernel on CPUs is slow for short sequences (its matrix products are too small).
There, training takes another route: compiled, the products are written out in blocks of rows, each over the keys it may
see; eager, the fused kernel runs in float32, the faster of the two up to E T = 8192. Same formula, other roundings.
Legend: B batch, T time, H heads, K key/value heads, G query heads per key/value head, E head width, R rows, S keys or
scored positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST_WRITTEN_OUT = 512
ROW_BLOCKS = 4
LARGEST_FLOAT32_HEAD = 8192


def causal_attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    """[B, H, T, E] in the dtype of v; H is a multiple of K and query head j reads key/value head floor(j K / H)."""
    T, E = q_BHTE.shape[2:]
    grouped = q_BHTE.shape[1] != k_BKTE.shape[1]
    if v_BKTE.device.type == "cpu" and v_BKTE.dtype == torch.bfloat16 and torch.is_grad_enabled():
        if torch.compiler.is_compiling() and T <= LONGEST_WRITTEN_OUT and T % ROW_BLOCKS == 0:
            return written_out_attention(q_BHTE, k_BKTE, v_BKTE)
        if E * T <= LARGEST_FLOAT32_HEAD:
            q, k, v = q_BHTE.float(), k_BKTE.float(), v_BKTE.float()
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).to(v_BKTE.dtype)
    return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=grouped)


def written_out_attention(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    """The same from matrix products: exponentials in float32, rounded to the dtype of v, normalised after the product.

    The heads that share a key/value head are rows of one product, so keys and values are never expanded.
    """
    B, H, T, E = q_BHTE.shape
    K = k_BKTE.shape[1]
    N, G, R = B * K, H // K, T // ROW_BLOCKS
    q_NGTE = (q_BHTE * E**-0.5).reshape(N, G, T, E)
    k_NTE, v_NTE = k_BKTE.reshape(N, T, E), v_BKTE.reshape(N, T, E)
    blocks = []
    for first in range(0, T, R):
        S = first + R  # the keys that the last row of this block sees
        future_RS = torch.full((R, S), float("-inf"), device=q_BHTE.device).triu(first + 1)
        scores_NGRS = (q_NGTE[:, :, first:S].reshape(N, G * R, E) @ k_NTE[:, :S].mT).view(
            N, G, R, S
        ).float() + future_RS
        weights_NGRS = (scores_NGRS - scores_NGRS.amax(-1, keepdim=True).detach()).exp().to(v_BKTE.dtype)
        sums_NGR1 = weights_NGRS.sum(-1, keepdim=True, dtype=torch.float32)
        mixed_NGRE = (weights_NGRS.view(N, G * R, S) @ v_NTE[:, :S]).view(N, G, R, E)
        blocks.append((mixed_NGRE / sums_NGR1).to(v_BKTE.dtype))
    return torch.cat(blocks, dim=2).view(B, H, T, E)


def attention_at(q_BHSE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, positions_BS: Tensor) -> Tensor:
    """Causal attention of the queries at some positions only: [B, H, S, E].

    The heads that share a key/value head are rows of one product; what is behind a query's position is masked.
    """
    B, H, S, E = q_BHSE.shape
    K, T = k_BKTE.shape[1:3]
    visible_BST = torch.arange(T, device=q_BHSE.device) <= positions_BS[:, :, None]
    visible_B1RT = visible_BST[:, None, None].expand(B, 1, H // K, S, T).reshape(B, 1, H // K * S, T)
    q_BKRE = q_BHSE.reshape(B, K, H // K * S, E)
    return F.scaled_dot_product_attention(q_BKRE, k_BKTE, v_BKTE, attn_mask=visible_B1RT).reshape(B, H, S, E)
