"""Fake quantisation: the weights that the exporter would write, inside a forward pass that can be differentiated.

    ste     forward: exactly decode(encode(w)); backward: identity (arXiv 1308.3432)
    soft    code = floor(w/s) + sigmoid(alpha · (frac - 1/2)), clamped; everything has its true gradient, the scale too
            (record of 2026-03-31); alpha -> infinity is round-to-nearest
    noise   w + (u - 1/2) · s with u uniform in [0, 1), one draw per weight and forward; backward: identity

Invariant: under "ste" the values are bit-equal to `quantise_rows(w, fmt).dequantise()`, because both call the functions
of golf/quant/rtn.py; no branch depends on data, so a compiled graph is whole.
"""

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.floats import round_to_float
from golf.quant.formats import QuantFormat
from golf.quant.rtn import (
    cells_of,
    cells_to_shape,
    clip_of_cells,
    codes_of_cells,
    decode_cells,
    limited_cells,
    scales_of_cells,
)

ROUNDINGS = ("ste", "soft", "noise")


def soft_codes(cells: Tensor, scale: Tensor, fmt: QuantFormat, softness: Tensor) -> Tensor:
    """Differentiable codes: steps that a sigmoid of slope `softness` has smoothed."""
    unit = scale * fmt.step
    scaled = cells / torch.where(unit > 0, unit, torch.ones_like(unit))
    lower = torch.floor(scaled)
    codes = (lower + torch.sigmoid(softness * (scaled - lower - 0.5))) * fmt.step
    return codes.clamp(fmt.code_min, fmt.code_max)


def fake_quantise(weight: Tensor, fmt: QuantFormat, rounding: str = "ste", softness: Tensor | None = None) -> Tensor:
    """`weight` on the grid of `fmt`, in its own dtype, with the gradient of `rounding`.

    Args:
        rounding: "ste", "soft" or "noise".
        softness: 0-D tensor, the slope alpha of soft rounding.

    Raises:
        UserError: an unknown rounding, or soft rounding without a softness or to a grid of floats.
    """
    if rounding not in ROUNDINGS:
        raise UserError(f"rounding '{rounding}' is not known: type qat.rounding=ste, soft or noise")
    cells = cells_of(weight.float(), fmt)
    known = cells if rounding == "soft" else cells.detach()
    clip = clip_of_cells(known, fmt)
    scale, stored = scales_of_cells(clip, fmt.has_rows(weight.shape), fmt, round_to_float)
    clip, scale, stored = clip[..., None], scale[..., None], stored[..., None]
    if rounding == "soft":
        if softness is None or fmt.number != "integer":
            raise UserError("soft rounding needs integer codes and a softness: type qat.rounding=ste")
        values = decode_cells(soft_codes(limited_cells(cells, clip, fmt), scale, fmt, softness), stored, fmt)
    elif rounding == "noise":
        values = cells + (torch.rand_like(known) - 0.5) * (stored * fmt.step)
    else:
        # The difference is zero and carries the gradient: w + (q - w) would not give back q to the last bit. It is
        # added before padding is cut off (torch 2.13 compiles the sum wrongly for a CPU after that).
        codes = codes_of_cells(limited_cells(known, clip, fmt), scale, fmt, round_to_float)
        values = decode_cells(codes, stored, fmt) + (cells - known)
    return cells_to_shape(values, weight.shape, fmt).to(weight.dtype)
