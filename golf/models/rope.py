"""Rotary position embedding (arXiv:2104.09864), half-split layout: dimension j pairs with j + R.

theta[t, j] = t * base^(-2j/E);  (a, b) -> (a cos + b sin, -a sin + b cos). Partial: only the first 2R dimensions of a
head are rotated. Positions are always exact; the frequencies may be rounded to bfloat16, as the public records did by
casting the module. Legend: B batch, T time, H heads, E head width, R half of the rotated width.
"""

import torch
from torch import Tensor, nn

from golf.errors import UserError


class Rope(nn.Module):
    """Tables for heads of width `head_width`.

    Args:
        head_width: E, even.
        base: 10000 in the baseline.
        dims: leading dimensions of a head that are rotated, even; None = all (records from 21 March: 16 of 64).
        reference_length: beyond this length the base becomes base · (T / reference)^(dims / (dims - 2)) ("NTK" rescale;
            fixed at 1024 in the March records, so that training at 2048 is rescaled, too); None = never. A packed row
            (with document boundaries) is not rescaled.
        bf16_frequencies: round the frequencies to bfloat16 (what the challenge's scripts compute with in bf16 runs);
            rescaled frequencies are always exact, as theirs are.
    """

    inv_freq: Tensor

    def __init__(
        self,
        head_width: int,
        base: float = 10000.0,
        dims: int | None = None,
        reference_length: int | None = None,
        bf16_frequencies: bool = False,
    ):
        super().__init__()
        self.dims = dims or head_width
        if not 2 <= self.dims <= head_width or self.dims % 2:
            raise UserError(f"model.rope.dims={dims} must be even and at most {head_width}, the width of a head")
        self.base, self.reference_length, self.bf16_frequencies = base, reference_length, bf16_frequencies
        self.register_buffer("inv_freq", self.rounded(self.frequencies(base)), persistent=False)

    def frequencies(self, base: float) -> Tensor:
        """Exact frequencies [R] for a base."""
        return 1.0 / (base ** (torch.arange(0, self.dims, 2, dtype=torch.float32) / self.dims))

    def rounded(self, frequencies_R: Tensor) -> Tensor:
        return frequencies_R.to(torch.bfloat16).float() if self.bf16_frequencies else frequencies_R

    def frequencies_at(self, length: int, packed: bool) -> Tensor:
        """Frequencies [R] for sequences of `length` tokens."""
        if self.reference_length is None or length <= self.reference_length or packed or self.dims == 2:
            return self.inv_freq
        base = self.base * (length / self.reference_length) ** (self.dims / (self.dims - 2))
        return self.frequencies(base).to(self.inv_freq.device)

    def forward(self, length: int, dtype: torch.dtype, packed: bool = False) -> tuple[Tensor, Tensor]:
        """Cosine and sine tables, each [T, R] in `dtype`."""
        positions = torch.arange(length, dtype=torch.float32, device=self.inv_freq.device)
        angles = torch.outer(positions, self.frequencies_at(length, packed))
        return angles.cos().to(dtype), angles.sin().to(dtype)


class YarnRope(Rope):
    """YaRN (arXiv:2309.00071) as the record of 24 March 2026 has it: low frequencies are slowed down, always.

    inv_freq_j = base^(-2j/E) / (1 + ramp_j (1/s - 1)), s = train_length / target_length,
    ramp_j = clip((2j/E - 0.25) / 0.75, 0, 1); base 5000, 1024 and 2048 there.
    """

    def __init__(
        self,
        head_width: int,
        base: float = 5000.0,
        dims: int | None = None,
        train_length: int = 1024,
        target_length: int = 2048,
        bf16_frequencies: bool = False,
    ):
        self.slowdown = target_length / train_length
        super().__init__(head_width, base, dims, None, bf16_frequencies)

    def frequencies(self, base: float) -> Tensor:
        share_R = torch.arange(0, self.dims, 2, dtype=torch.float32) / self.dims
        ramp_R = ((share_R - 0.25) / 0.75).clamp(0.0, 1.0)
        return (1.0 / (base**share_R)) / (1.0 + ramp_R * (self.slowdown - 1.0))


def rotate(x_BHTE: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Rotate the first 2R dimensions of every head vector by its position's angles; shape and dtype are kept."""
    half = cos_TR.shape[-1]
    a, b, rest = x_BHTE.tensor_split((half, 2 * half), dim=-1)
    rotated = a * cos_TR + b * sin_TR, b * cos_TR - a * sin_TR
    return torch.cat((*rotated, rest) if rest.shape[-1] else rotated, dim=-1)
