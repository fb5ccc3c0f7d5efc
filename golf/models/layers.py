"""The few layers everything is made of. Master weights stay in float32 and are cast where they are multiplied.

Legend: B batch, T time, D width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# float32 machine epsilon: what rms_norm(eps=None) uses, also for bfloat16 inputs (records of the challenge rely on it).
RMS_EPSILON = 1.1920928955078125e-07


class Linear(nn.Linear):
    """Bias-free linear map [out, in] with a float32 master weight, multiplied in the dtype of its input.

    `zero` marks output projections that initialisers set to zero.
    """

    roles: ClassVar[dict[str, str]] = {"weight": "matrix"}

    def __init__(self, in_features: int, out_features: int, zero: bool = False):
        super().__init__(in_features, out_features, bias=False)
        self.zero = zero

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class HeadLinear(Linear):
    """Untied output head [V, D]: a linear map with a role (and so an optimizer group) of its own."""

    roles: ClassVar[dict[str, str]] = {"weight": "head"}


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last axis, computed in float32, returned in the dtype of x; no weight."""
    x_float = x.float()
    return (x_float * torch.rsqrt(x_float.square().mean(-1, keepdim=True) + RMS_EPSILON)).to(x.dtype)


def softcap(logits: Tensor, cap: float) -> Tensor:
    """cap · tanh(logits / cap), written as cap · (2 sigmoid(2 logits / cap) - 1).

    The same function to the rounding of float32 (absolute error cap · 2⁻²³); compiled for a CPU the loss takes half the
    time, because the vectorised tanh is slow.
    """
    return torch.sigmoid(logits * (2.0 / cap)) * (2.0 * cap) - cap
