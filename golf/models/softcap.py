"""Softcaps: smooth bounds on the logits, applied in float32 before the loss."""

import torch
from torch import Tensor


class TanhSoftcap:
    """cap · tanh(logits / cap), written as 2 cap · (sigmoid(2 logits / cap) - 1/2); 30 in the challenge's baseline.

    The same function to the rounding of float32 (absolute error cap · 2⁻²³); compiled for a CPU the loss takes half the
    time, because the vectorised tanh is slow.
    """

    def __init__(self, cap: float = 30.0):
        self.cap = cap

    def __call__(self, logits: Tensor) -> Tensor:
        return (torch.sigmoid(logits * (2.0 / self.cap)) - 0.5) * (2.0 * self.cap)


class PolynomialSoftcap:
    """cap · clip(u (1 - u²/3 + u⁴/15), ±1) with u = clip(logits / cap, ±2) (record of 24 March 2026, cap 10).

    The fifth-order coefficient is the record's 1/15 (tanh's would be 2/15); no gradient beyond about ±1.69 · cap.
    """

    def __init__(self, cap: float = 10.0):
        self.cap = cap

    def __call__(self, logits: Tensor) -> Tensor:
        u = (logits / self.cap).clamp(-2.0, 2.0)
        square = u * u
        return self.cap * (u * (1.0 - square / 3.0 + square * square / 15.0)).clamp(-1.0, 1.0)


class NoSoftcap:
    """Logits as they are."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits
