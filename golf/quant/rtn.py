"""Round-to-nearest: the baseline's quantiser and its absmax relatives, bit for bit.

A cell is what shares one scale: a row, a group of a row, or a whole tensor; `cells_of` puts its elements on the last
axis.  code = clamp(rne(clamp(w, ±clip) / scale)), w' = code · float32(stored scale).
Invariant: `quantise_rows(w, f).dequantise()` is what evaluation runs on; packing never changes it, and training sees
the same bits (golf/quant/fake_quant.py calls the same functions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil, floor, prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.codec.layout import FLOAT_DTYPES, STORED_DTYPES, dtype_name
from golf.errors import UserError
from golf.quant.floats import round_to_float
from golf.quant.formats import QuantFormat


@dataclass(frozen=True)
class QuantisedTensor:
    """Codes (one int8 each; a float8's bits) with their scales, which have the shape `format.scale_shape` says."""

    codes: Tensor
    scales: Tensor
    format: QuantFormat
    original_dtype: str

    kind: ClassVar[str] = "codes"

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scales": self.scales}

    def meta(self) -> dict[str, Any]:
        return {"format": format_settings(self.format), "dtype": self.original_dtype}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "QuantisedTensor":
        known = {part.name for part in fields(QuantFormat)}
        if set(meta) != {"format", "dtype"} or not set(meta["format"]) <= known or set(parts) != {"codes", "scales"}:
            raise ValueError("not a quantised tensor")
        fmt, codes, scales = QuantFormat(**meta["format"]), parts["codes"], parts["scales"]
        single = scales.ndim == 0 and fmt.granularity != "group"
        if codes.dtype != torch.int8 or not scales.dtype.is_floating_point:
            raise ValueError("codes and scales do not belong together")
        if not single and tuple(scales.shape) != fmt.scale_shape(codes.shape):
            raise ValueError("codes and scales do not belong together")
        if meta["dtype"] not in FLOAT_DTYPES:
            raise ValueError(f"unknown dtype {meta['dtype']}")
        fmt.padded(codes.shape)
        return cls(codes, scales, fmt, meta["dtype"])

    def cpu(self) -> "QuantisedTensor":
        """The same, on the CPU."""
        return QuantisedTensor(self.codes.cpu(), self.scales.cpu(), self.format, self.original_dtype)

    def dequantise(self) -> Tensor:
        """Codes times scales in float32, then the original dtype."""
        codes = self.codes if self.format.number == "integer" else self.codes.view(torch.float8_e4m3fn)
        shape, scales = self.codes.shape, self.scales.float()
        cells = cells_of(codes.float(), self.format)
        if scales.ndim == 0 or scales.shape == cells.shape[:-1]:
            values = decode_cells(cells, scales[..., None], self.format)
            return cells_to_shape(values, shape, self.format).to(STORED_DTYPES[self.original_dtype])
        # One scale for each entry of the first axis, as artifacts of other programs may have it.
        scales = scales.reshape(*scales.shape, *[1] * (len(shape) - scales.ndim))
        return (codes.float() * scales).to(STORED_DTYPES[self.original_dtype])


class KnownFormats:
    """Reads quantised tensors as `QuantisedTensor` does, where every format that can occur is known beforehand."""

    kind: ClassVar[str] = "codes"

    def __init__(self, formats: Sequence[QuantFormat]) -> None:
        self.formats = formats

    def from_parts(self, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> QuantisedTensor:
        found = [fmt for fmt in self.formats if format_settings(fmt) == meta["format"]]
        if not found or meta["dtype"] not in FLOAT_DTYPES:
            raise ValueError("a tensor in a format of another plan")
        return QuantisedTensor(parts["codes"], parts["scales"], found[0], meta["dtype"])


def format_settings(fmt: QuantFormat) -> dict[str, Any]:
    """What a format has set other than by default, as plain data."""
    held = vars(fmt)
    return {part.name: held[part.name] for part in fields(QuantFormat) if held[part.name] != part.default}


def cells_of(values: Tensor, fmt: QuantFormat) -> Tensor:
    """`values` with the elements of one scale on the last axis: [..., C] rows, [..., G, group] or one flat [n]."""
    if not fmt.has_rows(values.shape):
        return values.reshape(-1)
    if fmt.granularity == "row":
        return values
    columns = values.shape[-1]
    padded = F.pad(values, (0, fmt.groups(columns) * fmt.group_size - columns))
    return padded.reshape(*values.shape[:-1], fmt.groups(columns), fmt.group_size)


def cells_to_shape(cells: Tensor, shape: tuple[int, ...] | torch.Size, fmt: QuantFormat) -> Tensor:
    """The inverse of `cells_of`: padding dropped."""
    if not fmt.has_rows(shape) or fmt.granularity == "row":
        return cells.reshape(shape)
    return cells.reshape(*shape[:-1], fmt.groups(shape[-1]) * fmt.group_size)[..., : shape[-1]]


def to_float32(value: float) -> float:
    """The float32 nearest to a double (Veltkamp's splitting: arithmetic that a compiler can fold)."""
    spread = value * (2.0**29 + 1.0)
    return spread - (spread - value)


def row_quantile(magnitudes: Tensor, quantile: float) -> Tensor:
    """Linearly interpolated quantile over the last axis: bit-equal to `torch.quantile(·, quantile, dim=-1)`, unsorted.

    The rank is quantile · (N − 1) in float32, as torch computes it; only the few largest values are looked at.
    """
    columns = magnitudes.shape[-1]
    rank = to_float32(to_float32(quantile) * (columns - 1))
    below, above = floor(rank), min(ceil(rank), columns - 1)
    top = torch.topk(magnitudes, columns - below, dim=-1).values
    return torch.lerp(top[..., columns - 1 - below], top[..., columns - 1 - above], rank - below)


def clip_of_cells(cells: Tensor, fmt: QuantFormat) -> Tensor:
    """The magnitude of each cell that maps to `scale_codes`, float32."""
    if cells.shape[-1] == 0 or cells.numel() == 0:
        return cells.new_zeros(cells.shape[:-1])
    if fmt.clip == "absmean":
        clip = cells.abs().mean(dim=-1)
    elif fmt.clip == "deviation":
        clip = cells.std(dim=-1) if cells.shape[-1] > 1 else cells[..., 0].abs()
    elif fmt.clip_quantile is None:
        clip = cells.abs().amax(dim=-1)
    else:
        clip = row_quantile(cells.abs(), fmt.clip_quantile)
    if fmt.clip_factor != 1.0:
        clip = fmt.clip_factor * clip
    return clip.clamp_min(fmt.clip_floor) if fmt.clip_floor else clip


def scales_of_cells(clip: Tensor, rows: bool, fmt: QuantFormat) -> tuple[Tensor, Tensor]:
    """From clips: the scale that makes codes and the scale as stored (both as float32)."""
    if fmt.granularity == "none":
        return torch.ones_like(clip), torch.ones_like(clip)
    if rows:
        exact = (clip / fmt.divisor).clamp_min(fmt.scale_floor)
        stored = round_to_float(exact, fmt.scale_dtype).clamp_min(fmt.stored_floor)
    else:
        exact = torch.where(clip > 0, clip / fmt.divisor, torch.full_like(clip, fmt.tensor_scale_of_zeros))
        exact = exact.clamp_min(fmt.tensor_scale_floor)
        stored = round_to_float(exact, fmt.tensor_scale_dtype)
    return (stored if fmt.self_consistent else exact), stored


def codes_of_cells(cells: Tensor, clip: Tensor, scale: Tensor, fmt: QuantFormat) -> Tensor:
    """Codes as float32; a scale of zero (a cell that vanishes in its stored scale) gives code 0 for zero weights."""
    limited = cells if fmt.clip_quantile is None else torch.clamp(cells, -clip, clip)
    scaled = limited / scale
    if fmt.number != "integer":
        return round_to_float(scaled.clamp(fmt.code_min, fmt.code_max), fmt.number)
    codes = torch.round(scaled)
    if fmt.step > 1:
        codes = torch.round(codes / fmt.step) * fmt.step
    return torch.nan_to_num(codes.clamp(fmt.code_min, fmt.code_max), nan=0.0)


def decode_cells(codes: Tensor, stored: Tensor, fmt: QuantFormat) -> Tensor:
    """Codes times the stored scale, both float32 (`stored` with a last axis of one)."""
    values = codes * stored
    return values / codes.abs().mean(dim=-1, keepdim=True).clamp_min(1e-8) if fmt.keep_mean else values


def quantise_rows(weight: Tensor, fmt: QuantFormat) -> QuantisedTensor:
    """Round `weight` to the grid of `fmt`.

    Raises:
        UserError: a value that is not finite, or a scale that overflows its stored type.
    """
    original = dtype_name(weight.dtype)
    if original not in FLOAT_DTYPES:
        raise UserError(f"cannot quantise a tensor of dtype {original}: only floating-point weights have scales")
    values = weight.detach().float().contiguous()
    if not torch.isfinite(values).all():
        raise UserError("cannot quantise NaN or infinite weights: export an earlier checkpoint")
    rows = fmt.has_rows(values.shape)
    fmt.padded(values.shape)
    cells = cells_of(values, fmt)
    clip = clip_of_cells(cells, fmt)
    scale, exact_stored = scales_of_cells(clip, rows, fmt)
    stored = exact_stored.to(STORED_DTYPES[fmt.scale_dtype if rows else fmt.tensor_scale_dtype])
    if not torch.isfinite(stored).all():
        raise UserError(
            f"a weight of magnitude {float(clip.max()):.4g} overflows its {stored.dtype} scale: route to float32"
        )
    codes = cells_to_shape(codes_of_cells(cells, clip[..., None], scale[..., None], fmt), values.shape, fmt)
    if fmt.number == "integer":
        return QuantisedTensor(codes.to(torch.int8), stored, fmt, original)
    bits = codes.to(torch.float8_e4m3fn).reshape(prod(values.shape)).view(torch.int8).reshape(values.shape)
    return QuantisedTensor(bits, stored, fmt, original)
