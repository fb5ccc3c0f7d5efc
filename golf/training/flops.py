"""Model FLOPs as the field counts them (arXiv:2204.02311, appendix B): 6 per weight and token, plus attention."""

from __future__ import annotations

from typing import Any

from golf.models.roles import roles_of


def training_flops_per_token(net: Any, seq_len: int) -> float:
    """Forward and backward FLOPs per token: 6·(weights in matrix products) + 6·visits·width·seq_len (causal attention).

    The tied embedding counts once, as the output head; lookups are free.
    """
    roles = roles_of(net)
    multiplied = ("matrix", "head") if net.lm_head is not None else ("matrix", "embedding")
    weights = sum(p.numel() for name, p in net.named_parameters() if roles[name] in multiplied)
    return 6.0 * weights + 6.0 * len(net.visits) * net.width * seq_len
