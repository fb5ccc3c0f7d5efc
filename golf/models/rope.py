"""Rotary position embedding (arXiv:2104.09864), half-split layout: dimension j pairs with j + E/2.

theta[t, j] = t * base^(-2j/E);  (a, b) -> (a cos + b sin, -a sin + b cos).
Positions are always exact; the frequencies may be rounded to bfloat16, as the public records did by casting the module.
"""

import torch
from torch import Tensor, nn


class Rope(nn.Module):
    """Tables for heads of width `head_width`.

    Args:
        head_width: E, even.
        base: 10000 in the baseline.
        bf16_frequencies: round the frequencies to bfloat16 (what the challenge's scripts compute with in bf16 runs).
    """

    inv_freq: Tensor

    def __init__(self, head_width: int, base: float = 10000.0, bf16_frequencies: bool = False):
        super().__init__()
        self.head_width, self.base, self.bf16_frequencies = head_width, base, bf16_frequencies
        self.register_buffer("inv_freq", self.frequencies(), persistent=False)

    def frequencies(self) -> Tensor:
        exponent = torch.arange(0, self.head_width, 2, dtype=torch.float32) / self.head_width
        inv_freq = 1.0 / (self.base**exponent)
        return inv_freq.to(torch.bfloat16).float() if self.bf16_frequencies else inv_freq

    def forward(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine tables, each [T, E/2] in `dtype`."""
        positions = torch.arange(length, dtype=torch.float32, device=self.inv_freq.device)
        angles = torch.outer(positions, self.inv_freq)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x_BHTE: Tensor, cos_TE2: Tensor, sin_TE2: Tensor) -> Tensor:
    """Rotate every head vector by its position's angles; shape and dtype are kept."""
    a, b = x_BHTE.chunk(2, dim=-1)
    return torch.cat((a * cos_TE2 + b * sin_TE2, b * cos_TE2 - a * sin_TE2), dim=-1)
