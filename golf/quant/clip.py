"""Clip search: of five quantiles of |w|, the one whose rounding error is smallest.

    p in {0.999, 0.9995, 0.9999, 0.99999, 1},  scale = max(quantile_p(|row|) / Q, 1/Q),  codes -Q..Q

Published with the records of 2026-03-22 to 2026-04-04 (as "GPTQ-lite": nothing of GPTQ is in it; gain 0.0006 bpb), with
one quantile for the whole matrix. Invariant: the first of those with the least mean squared error is taken.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from golf.codec.layout import dtype_name, torch_dtype
from golf.errors import UserError
from golf.quant.formats import QuantFormat, floor_rows
from golf.quant.rtn import QuantisedTensor, codes_of_cells, finite_values, quantise_rows, row_quantile, scales_of_cells

CLIP_CANDIDATES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
CLIP_SEARCH_SCOPES = ("matrix", "row")


class ClipSearch:
    """A treatment of a quantisation plan. `bits`: 6 or 5 in the records. `per`: "matrix" (as there) or "row"."""

    def __init__(self, bits: int = 6, per: str = "matrix"):
        if per not in CLIP_SEARCH_SCOPES:
            raise UserError(f"per={per} is not known: type per=matrix or per=row")
        self.format, self.per = floor_rows(bits, symmetric=True), per

    @property
    def only_format(self) -> QuantFormat:
        """What its tensors are in."""
        return self.format

    def candidates(self) -> list[QuantFormat]:
        """The formats that are tried, in order."""
        return [replace(self.format, clip_quantile=None if p == 1.0 else p) for p in CLIP_CANDIDATES]

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> QuantisedTensor:
        if not self.format.has_rows(weight.shape):
            return quantise_rows(weight, self.format)
        values = finite_values(weight)
        # A candidate's quantile makes the scale and cuts nothing off: under the floor, codes reach as far as they can.
        clips = [row_quantile(values.abs(), quantile) for quantile in CLIP_CANDIDATES]
        scales = torch.stack([scales_of_cells(clip, True, self.format)[1] for clip in clips])
        codes = codes_of_cells(values, scales[..., None], self.format)
        errors = (values - codes * scales[..., None]).square().mean(dim=-1)
        if self.per == "matrix":
            chosen = errors.flatten(1).mean(dim=1).argmin().expand_as(errors[0])
        else:
            chosen = errors.argmin(dim=0)
        picked = torch.gather(codes, 0, chosen[None, ..., None].expand(1, *values.shape))[0]
        stored = torch.gather(scales, 0, chosen[None])[0].to(torch_dtype(self.format.scale_dtype))
        return QuantisedTensor(picked.to(torch.int8), stored, self.format, dtype_name(weight.dtype))

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        return self.format.payload_bytes(shape)
