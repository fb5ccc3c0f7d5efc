"""A linear map that multiplies with fake-quantised weights while the forward says so, and with plain ones otherwise."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from golf.quant.fake_quant import fake_quantise
from golf.quant.formats import QuantFormat


class QatLinear:
    """y = x fake_quantise(W)ᵀ where `context.quantise`, else x Wᵀ (also where no context is given).

    Args:
        format: the grid.
        rounding: "ste", "soft" (with the slope `context.softness`) or "noise".
        round_first: W is rounded to the dtype of x before the grid is laid, as the records with autocast do.
    """

    def __init__(self, format: QuantFormat, rounding: str = "ste", round_first: bool = False):
        self.format, self.rounding, self.round_first = format, rounding, round_first

    def __call__(self, x: Tensor, weight: Tensor, context: Any = None) -> Tensor:
        if context is not None and context.quantise:
            if self.round_first:
                weight = weight.to(x.dtype).to(weight.dtype)
            weight = fake_quantise(weight, self.format, self.rounding, context.softness)
        return F.linear(x, weight.to(x.dtype))
