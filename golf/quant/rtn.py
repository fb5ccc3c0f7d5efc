"""Round-to-nearest: the baseline's quantiser and its absmax relatives, bit for bit.

Legend: R rows, N columns.  code = clamp(rne(clamp(w, ±clip) / scale)), w' = code · float32(stored scale).
Invariant: `quantise_rows(w, f).dequantise()` is what evaluation runs on; packing never changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil, floor
from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.formats import QuantFormat

FLOAT_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def float_dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` → "bfloat16"."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class QuantisedTensor:
    """Integer codes with their scales: scales has shape [R] (one per row) or [] (one for the tensor)."""

    codes: Tensor
    scales: Tensor
    format: QuantFormat
    original_dtype: str

    kind: ClassVar[str] = "codes"

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scales": self.scales}

    def meta(self) -> dict[str, Any]:
        chosen = {
            field.name: getattr(self.format, field.name)
            for field in fields(QuantFormat)
            if getattr(self.format, field.name) != field.default
        }
        return {"format": chosen, "dtype": self.original_dtype}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "QuantisedTensor":
        known = {field.name for field in fields(QuantFormat)}
        if set(meta) != {"format", "dtype"} or not set(meta["format"]) <= known or set(parts) != {"codes", "scales"}:
            raise ValueError("not a quantised tensor")
        codes, scales = parts["codes"], parts["scales"]
        expected_shape = (codes.shape[0],) if scales.ndim else ()
        if codes.dtype != torch.int8 or not scales.dtype.is_floating_point or scales.shape != expected_shape:
            raise ValueError("codes and scales do not belong together")
        if meta["dtype"] not in FLOAT_DTYPES:
            raise ValueError(f"unknown dtype {meta['dtype']}")
        return cls(codes, scales, QuantFormat(**meta["format"]), meta["dtype"])

    def cpu(self) -> "QuantisedTensor":
        """The same, on the CPU."""
        return QuantisedTensor(self.codes.cpu(), self.scales.cpu(), self.format, self.original_dtype)

    def dequantise(self) -> Tensor:
        """Codes times scales in float32, then the original dtype."""
        scales = self.scales.float()
        if scales.ndim:
            scales = scales.reshape(-1, *[1] * (self.codes.ndim - 1))
        return (self.codes.float() * scales).to(FLOAT_DTYPES[self.original_dtype])


def row_quantile(magnitudes_RN: Tensor, quantile: float) -> Tensor:
    """Linearly interpolated quantile of each row: bit-equal to `torch.quantile(·, quantile, dim=1)`, without sorting.

    The rank is quantile · (N − 1) in float32, as torch computes it; only the few largest values of a row are looked at.
    """
    columns = magnitudes_RN.shape[1]
    rank = float(torch.tensor(quantile, dtype=torch.float32) * (columns - 1))
    below, above = floor(rank), min(ceil(rank), columns - 1)
    top = torch.topk(magnitudes_RN, columns - below, dim=1).values
    weight = torch.tensor(rank - below, dtype=magnitudes_RN.dtype, device=magnitudes_RN.device)
    return torch.lerp(top[:, columns - 1 - below], top[:, columns - 1 - above], weight)


def clip_of_rows(weight_RN: Tensor, fmt: QuantFormat) -> Tensor:
    """The magnitude of each row that maps to `code_max`, float32 [R]."""
    magnitudes_RN = weight_RN.abs()
    if magnitudes_RN.shape[1] == 0:
        return magnitudes_RN.new_zeros(magnitudes_RN.shape[0])
    if fmt.clip_quantile is None or magnitudes_RN.shape[0] == 0:
        return magnitudes_RN.amax(dim=1)
    return row_quantile(magnitudes_RN, fmt.clip_quantile)


def codes_of(weight: Tensor, clip: Tensor, scale: Tensor, fmt: QuantFormat) -> Tensor:
    """Codes on the grid; a scale of zero (a row that vanishes in its stored scale) gives code 0 for zero weights."""
    limited = weight if fmt.clip_quantile is None else torch.clamp(weight, -clip, clip)
    codes = torch.round(limited / scale).clamp(fmt.code_min, fmt.code_max)
    return torch.nan_to_num(codes, nan=0.0).to(torch.int8)


def quantise_rows(weight: Tensor, fmt: QuantFormat) -> QuantisedTensor:
    """Round `weight` to the grid of `fmt`.

    Raises:
        UserError: a value that is not finite, or a scale that overflows its stored type.
    """
    original = float_dtype_name(weight.dtype)
    if original not in FLOAT_DTYPES:
        raise UserError(f"cannot quantise a tensor of dtype {original}: only floating-point weights have scales")
    values = weight.detach().float().contiguous()
    if not torch.isfinite(values).all():
        raise UserError("cannot quantise NaN or infinite weights: export an earlier checkpoint")
    if fmt.has_rows(values.shape):
        clip = clip_of_rows(values, fmt)
        exact = (clip / fmt.code_max).clamp_min(fmt.scale_floor)
        stored = exact.to(FLOAT_DTYPES[fmt.scale_dtype]).clamp_min(fmt.stored_floor)
        used = stored.float() if fmt.self_consistent else exact
        codes = codes_of(values, clip[:, None], used[:, None], fmt)
    else:
        clip = clip_of_rows(values.reshape(1, -1), fmt)[0]
        exact = torch.where(clip > 0, clip / fmt.code_max, torch.full_like(clip, fmt.tensor_scale_of_zeros))
        exact = exact.clamp_min(fmt.tensor_scale_floor)
        stored = exact.to(FLOAT_DTYPES[fmt.tensor_scale_dtype])
        used = stored.float() if fmt.self_consistent else exact
        codes = codes_of(values, clip, used, fmt)
    if not torch.isfinite(stored).all():
        raise UserError(
            f"a weight of magnitude {float(clip.max()):.4g} overflows its {stored.dtype} scale: route to float32"
        )
    return QuantisedTensor(codes, stored, fmt, original)
