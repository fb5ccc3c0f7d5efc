"""Ternary weights during the whole training (published record of 2026-03-24; BitNet b1.58, arXiv 2402.17764).

    s = max(mean |w|, 1e-8) per group of neighbours in a row,  q = clip(round(w / s), -1, 1),  y = x (q s)ᵀ

with the identity as gradient of w -> q s. Output projections RMS-normalise their input first, because nothing else
bounds it. Invariant: evaluation computes with the same ternary weights as training; master weights stay float32, and
under bfloat16 weights and scales are rounded to bfloat16, as the record has them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.models.layers import rms_norm
from golf.models.linear.blocks import block_linears, put_operation
from golf.quant.fake_quant import fake_quantise
from golf.quant.formats import ternary_groups


class TernaryLinear:
    """y = rms_norm(x) or x, times the ternary weights. `group`: elements of a row that share a scale."""

    def __init__(self, group: int = 128, norm_input: bool = False):
        self.group, self.norm_input = group, norm_input
        self.full = ternary_groups(group, keep_mean=False, scale_dtype="float32")
        self.half = ternary_groups(group, keep_mean=False, scale_dtype="bfloat16")

    def __call__(self, x: Tensor, weight: Tensor, context: Any = None) -> Tensor:
        if self.norm_input:
            x = rms_norm(x)
        fmt = self.half if x.dtype == torch.bfloat16 else self.full
        return F.linear(x, fake_quantise(weight.to(x.dtype), fmt))


class TernaryLinears:
    """Makes every matrix of the blocks ternary. `group`: elements of a row that share a scale (record: 128)."""

    def __init__(self, group: int = 128):
        self.group = group

    def __call__(self, model: nn.Module) -> None:
        for name, linear in block_linears(model).items():
            put_operation(name, linear, TernaryLinear(self.group, norm_input=linear.zero))
