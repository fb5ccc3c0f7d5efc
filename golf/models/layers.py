"""The few layers everything is made of. Master weights stay in float32 and are cast where they are multiplied.

Legend: B batch, T time, D width.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# float32 machine epsilon: what rms_norm(eps=None) uses, also for bfloat16 inputs (records of the challenge rely on it).
RMS_EPSILON = 1.1920928955078125e-07


class Linear(nn.Linear):
    """Bias-free linear map [out, in]: a float32 master weight, multiplied in the dtype of its input.

    Two things can be put on it after construction, so that no caller has to know of them:
    `source`: context -> weight, where the weight is not this module's own (tied, low-rank, another layer's);
    `op`: (x, weight, context) -> y in place of x Wᵀ (fake quantisation, ternary …).
    `zero` marks output projections that initialisers set to zero.
    """

    roles: ClassVar[dict[str, str]] = {"weight": "matrix"}
    weight: Any  # None where `source` replaces it
    source: Callable[..., Tensor] | None = None
    op: Callable[..., Tensor] | None = None

    def __init__(self, in_features: int, out_features: int, zero: bool = False):
        super().__init__(in_features, out_features, bias=False)
        self.zero = zero

    def matrix(self, context: Any = None) -> Tensor:
        """The weight of this forward, [out, in] in float32."""
        return self.weight if self.source is None else self.source(context)

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        weight = self.matrix(context)
        if self.op is not None:
            return self.op(x, weight, context)
        return F.linear(x, weight.to(x.dtype))


class HeadLinear(Linear):
    """Untied output head [V, D]: a linear map with a role (and so an optimizer group) of its own."""

    roles: ClassVar[dict[str, str]] = {"weight": "head"}


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last axis: computed in float32, returned in the dtype of x; no weight."""
    x_float = x.float()
    return (x_float * torch.rsqrt(x_float.square().mean(-1, keepdim=True) + RMS_EPSILON)).to(x.dtype)
