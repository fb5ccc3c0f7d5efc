"""Round-to-nearest: the baseline's quantiser and its absmax relatives, bit for bit.

A cell is what shares one scale: a row, a group of a row, or a whole tensor; `cells_of` puts its elements on the last
axis.  code = clamp(rne(clamp(w, ±clip) / scale)), w' = code · float32(stored scale).
Invariant: `quantise_rows(w, f).dequantise()` is what evaluation runs on; packing never changes it, and training sees
the same bits (golf/quant/fake_quant.py calls the same functions).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, floor, prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.codec.layout import FLOAT_DTYPES, dtype_name, torch_dtype
from golf.errors import UserError
from golf.quant.floats import cast_to_float
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
        fmt, scales = self.format, self.scales.float()
        codes = (self.codes if fmt.number == "integer" else self.codes.view(torch.float8_e4m3fn)).float()
        if fmt.granularity == "group" or fmt.keep_mean:
            cells = decode_cells(cells_of(codes, fmt), scales[..., None], fmt)
            values = cells_to_shape(cells, codes.shape, fmt)
        else:  # one scale for all, or one for each entry of the first axes
            values = codes * scales.reshape((*scales.shape, *[1] * (codes.ndim - scales.ndim)))
        return values.to(torch_dtype(self.original_dtype))


class KnownFormats:
    """Reads quantised tensors of formats that are known beforehand."""

    def __init__(self, formats: Sequence[QuantFormat]) -> None:
        self.formats = formats

    def read_codes(self, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> QuantisedTensor:
        first = self.formats[0]
        others = [fmt for fmt in self.formats if fmt != first and format_settings(fmt) == meta["format"]]
        read = QuantisedTensor(parts["codes"], parts["scales"], [*others, first][0], meta["dtype"])
        if read.meta() != meta or meta["dtype"] not in FLOAT_DTYPES:
            raise ValueError("a tensor in a format of another plan")
        return read


def format_settings(fmt: QuantFormat) -> dict[str, Any]:
    """What a format has set other than by default, as plain data."""
    held = asdict(fmt)
    return {part.name: held[part.name] for part in fields(QuantFormat) if held[part.name] != part.default}


def cells_of(values: Tensor, fmt: QuantFormat) -> Tensor:
    """`values` with the elements of one scale on the last axis: [..., C] rows, [..., G, group] or one flat [n]."""
    if fmt.granularity == "group" and fmt.has_rows(values.shape):
        columns = values.shape[-1]
        padded = F.pad(values, (0, fmt.groups(columns) * fmt.group_size - columns))
        return padded.reshape(*values.shape[:-1], fmt.groups(columns), fmt.group_size)
    return values if fmt.has_rows(values.shape) else values.flatten()


def cells_to_shape(cells: Tensor, shape: tuple[int, ...] | torch.Size, fmt: QuantFormat) -> Tensor:
    """The inverse of `cells_of`: padding dropped."""
    if fmt.granularity == "group" and fmt.has_rows(shape):
        return cells.reshape(*shape[:-1], fmt.groups(shape[-1]) * fmt.group_size)[..., : shape[-1]]
    return cells.reshape(shape)


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
    below = floor(rank)
    top = torch.topk(magnitudes, columns - below, dim=-1).values
    return torch.lerp(top[..., -1], top[..., below - ceil(rank) - 1], rank - below)


def clip_of_cells(cells: Tensor, fmt: QuantFormat) -> Tensor:
    """The magnitude of each cell that maps to `scale_codes`, float32."""
    if cells.numel() == 0:
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


def scales_of_cells(
    clip: Tensor, rows: bool, fmt: QuantFormat, rounded: Callable[[Tensor, str], Tensor] = cast_to_float
) -> tuple[Tensor, Tensor]:
    """From clips: the scale that makes codes and the scale as stored (both as float32).

    rounded: how to round to a narrow float type (golf/quant/floats.py).
    """
    if fmt.granularity == "none":
        return torch.ones_like(clip), torch.ones_like(clip)
    if rows:
        exact = (clip / fmt.divisor).clamp_min(fmt.scale_floor)
        stored = rounded(exact, fmt.scale_dtype)
        if fmt.stored_floor:
            stored = stored.clamp_min(fmt.stored_floor)
    else:
        exact = torch.where(clip > 0, clip / fmt.divisor, fmt.tensor_scale_of_zeros)
        if fmt.tensor_scale_floor:
            exact = exact.clamp_min(fmt.tensor_scale_floor)
        stored = rounded(exact, fmt.tensor_scale_dtype)
    return (stored if fmt.self_consistent else exact), stored


def limited_cells(cells: Tensor, clip: Tensor, fmt: QuantFormat) -> Tensor:
    """The weights of which codes are made: cut off where the clip is a quantile."""
    return cells if fmt.clip_quantile is None else torch.clamp(cells, -clip, clip)


def codes_of_cells(
    limited: Tensor, scale: Tensor, fmt: QuantFormat, rounded: Callable[[Tensor, str], Tensor] = cast_to_float
) -> Tensor:
    """Codes as float32; a scale of zero (a cell that vanishes in its stored scale) gives code 0 for zero weights."""
    scaled = limited / scale
    if fmt.number != "integer":
        return rounded(scaled.clamp(fmt.code_min, fmt.code_max), fmt.number) + 0.0  # no negative zero
    codes = torch.round(scaled)
    if fmt.step > 1:
        codes = torch.round(codes / fmt.step) * fmt.step
    return torch.nan_to_num(codes.clamp(fmt.code_min, fmt.code_max), nan=0.0)


def decode_cells(codes: Tensor, stored: Tensor, fmt: QuantFormat) -> Tensor:
    """Codes times the stored scale, both float32 (`stored` with a last axis of one)."""
    values = codes * stored
    return values / codes.abs().mean(dim=-1, keepdim=True).clamp_min(1e-8) if fmt.keep_mean else values


def finite_values(weight: Tensor) -> Tensor:
    """A weight in float32.

    Raises:
        UserError: a value that is not finite.
    """
    if not torch.isfinite(weight).all():
        raise UserError("cannot quantise NaN or infinite weights: export an earlier checkpoint")
    return weight.detach().float().contiguous()


def quantise_rows(weight: Tensor, fmt: QuantFormat) -> QuantisedTensor:
    """Round `weight` to the grid of `fmt`.

    Raises:
        UserError: a value that is not finite, or a scale that overflows its stored type.
    """
    original = dtype_name(weight.dtype)
    if original not in FLOAT_DTYPES:
        raise UserError(f"cannot quantise a tensor of dtype {original}: only floating-point weights have scales")
    values = finite_values(weight)
    rows = fmt.has_rows(values.shape)
    fmt.padded(values.shape)
    cells = cells_of(values, fmt)
    clip = clip_of_cells(cells, fmt)
    scale, exact_stored = scales_of_cells(clip, rows, fmt)
    stored = exact_stored.to(torch_dtype(fmt.scale_dtype if rows else fmt.tensor_scale_dtype))
    if not torch.isfinite(stored).all():
        raise UserError(
            f"a weight of magnitude {float(clip.max()):.4g} overflows its {stored.dtype} scale: route to float32"
        )
    code_cells = codes_of_cells(limited_cells(cells, clip[..., None], fmt), scale[..., None], fmt)
    codes = cells_to_shape(code_cells, values.shape, fmt)
    if fmt.number == "integer":
        return QuantisedTensor(codes.to(torch.int8), stored, fmt, original)
    bits = codes.to(torch.float8_e4m3fn).reshape(prod(values.shape)).view(torch.int8).reshape(values.shape)
    return QuantisedTensor(bits, stored, fmt, original)
