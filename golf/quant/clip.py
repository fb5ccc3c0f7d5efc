"""Clip search: of five quantiles of |w|, the one whose rounding error is smallest for the whole matrix.

    p in {0.999, 0.9995, 0.9999, 0.99999, 1},  scale = max(quantile_p(|row|) / Q, 1/Q),  codes -Q..Q

Published with the records of 2026-03-22 to 2026-04-04 (as "GPTQ-lite": nothing of GPTQ is in it; gain 0.0006 bpb).
Invariant: one quantile for the whole matrix, the first of those with the least mean squared error.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from golf.quant.formats import QuantFormat, floor_rows
from golf.quant.rtn import QuantisedTensor, quantise_rows

CLIP_CANDIDATES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


class ClipSearch:
    """A treatment of a quantisation plan. `bits`: 6 or 5 in the records."""

    def __init__(self, bits: int = 6):
        self.format = floor_rows(bits, symmetric=True)

    def candidates(self) -> list[QuantFormat]:
        """The formats that are tried, in order."""
        return [replace(self.format, clip_quantile=None if p == 1.0 else p) for p in CLIP_CANDIDATES]

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> QuantisedTensor:
        if not self.format.has_rows(weight.shape):
            return quantise_rows(weight, self.format)
        tried = [quantise_rows(weight, fmt) for fmt in self.candidates()]
        errors = [float((weight.float() - stored.dequantise().float()).square().mean()) for stored in tried]
        return tried[errors.index(min(errors))]

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        return self.format.payload_bytes(shape)
