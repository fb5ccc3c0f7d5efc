"""Frozen weight formats: the one description of a grid that training, export, packer and size forecast all read.

A format says which integers a code may take and how the scale of a row (or of a whole tensor) is made from its weights:

    clip  = max |w|, or its linearly interpolated quantile
    scale = max(clip / code_max, floor)          in float32, stored as float16
    code  = clamp(round(w / scale), code_min, code_max)

`self_consistent` formats divide by the scale as stored; the others divide by the float32 scale (the baseline's habit, a
relative mismatch of at most 2^-11). Invariant: a format is immutable, and equal formats give equal codes.
"""

from dataclasses import dataclass
from math import prod

from torch import Size

from golf.errors import UserError

FLOAT16_TINY = 2.0**-14
SCALE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class QuantFormat:
    """An integer grid and the rule of its scales.

    Args:
        bits: bits that an honest packer needs per code before entropy coding (a code is kept in one int8).
        code_min, code_max: the codes in use; code_max also divides the clip.
        granularity: "row" (one scale per row of a matrix; other shapes get one scale) or "tensor" (always one).
        clip_quantile: quantile of |w| that becomes code_max; None is the maximum.
        scale_floor: smallest scale of a row, applied before rounding to the stored type.
        stored_floor: smallest scale of a row after rounding (float16's smallest normal keeps scales exact); 0 is none.
        scale_dtype: how a row's scale is stored.
        tensor_scale_dtype: how the single scale of a tensor without rows is stored.
        tensor_scale_floor: smallest single scale.
        tensor_scale_of_zeros: the single scale of a tensor that is all zeros (before its floor).
        self_consistent: codes are made with the scale as stored.
    """

    bits: int
    code_min: int
    code_max: int
    granularity: str = "row"
    clip_quantile: float | None = None
    scale_floor: float = 0.0
    stored_floor: float = 0.0
    scale_dtype: str = "float16"
    tensor_scale_dtype: str = "float16"
    tensor_scale_floor: float = 0.0
    tensor_scale_of_zeros: float = 0.0
    self_consistent: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.code_max <= 127 and -128 <= self.code_min <= 0):
            raise UserError(f"codes {self.code_min}..{self.code_max} do not fit one signed byte: use -128..127 at most")
        if self.code_max - self.code_min >= 2**self.bits:
            raise UserError(
                f"codes {self.code_min}..{self.code_max} need more than {self.bits} bits: type bits="
                f"{(self.code_max - self.code_min).bit_length()}"
            )
        if self.granularity not in ("row", "tensor"):
            raise UserError(
                f"granularity '{self.granularity}' is not known: type granularity=row or granularity=tensor"
            )
        if self.clip_quantile is not None and not 0.0 < self.clip_quantile <= 1.0:
            raise UserError(f"clip_quantile={self.clip_quantile} is outside (0, 1]: type clip_quantile=0.9999984")
        for dtype in (self.scale_dtype, self.tensor_scale_dtype):
            if dtype not in SCALE_BYTES:
                raise UserError(f"scale dtype '{dtype}' is not known: use one of {', '.join(SCALE_BYTES)}")

    def has_rows(self, shape: tuple[int, ...] | Size) -> bool:
        """Whether a tensor of this shape gets one scale per row."""
        return self.granularity == "row" and len(shape) == 2

    def payload_bytes(self, shape: tuple[int, ...] | Size) -> int:
        """Bytes of codes and scales before compression, one byte per code."""
        if self.has_rows(shape):
            return prod(shape) + shape[0] * SCALE_BYTES[self.scale_dtype]
        return prod(shape) + SCALE_BYTES[self.tensor_scale_dtype]


def int8_rows() -> QuantFormat:
    """The baseline's int8 (2026-03-17, `int8_clean_per_row_v1`): clip at the 0.9999984 quantile, floor 1/127."""
    return QuantFormat(
        bits=8,
        code_min=-127,
        code_max=127,
        clip_quantile=0.9999984,
        scale_floor=1.0 / 127.0,
        tensor_scale_dtype="float32",
        tensor_scale_of_zeros=1.0,
    )


def int8_gate_rows() -> QuantFormat:
    """int8 rows without clipping or a useful floor, for small gate matrices (record of 2026-04-27)."""
    return QuantFormat(bits=8, code_min=-127, code_max=127, scale_floor=1e-10, self_consistent=True)


def absmax_rows(bits: int) -> QuantFormat:
    """`bits`-bit rows by their maximum, full two's-complement range, no absolute floor (records of 2026-03-20)."""
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max - 1,
        code_max=code_max,
        scale_floor=1e-12,
        stored_floor=FLOAT16_TINY,
        tensor_scale_floor=1e-12,
        self_consistent=True,
    )


def int6_rows() -> QuantFormat:
    """6-bit rows by their maximum (record of 2026-03-20): codes -32..31, no absolute floor."""
    return absmax_rows(6)


def int5_rows() -> QuantFormat:
    """5-bit rows by their maximum (record of 2026-03-20, MLP matrices): codes -16..15, no absolute floor."""
    return absmax_rows(5)


def int6_floor_rows() -> QuantFormat:
    """6-bit rows by their maximum with the floor 1/31 (record of 2026-03-21): a uniform step for rows below 1."""
    return QuantFormat(
        bits=6,
        code_min=-32,
        code_max=31,
        scale_floor=1.0 / 31.0,
        tensor_scale_of_zeros=1.0,
        self_consistent=True,
    )


def int6_clipped_rows() -> QuantFormat:
    """6-bit rows made like the baseline's int8 (records of 2026-03-19): quantile clip, floor 1/31, codes -31..31."""
    return QuantFormat(
        bits=6,
        code_min=-31,
        code_max=31,
        clip_quantile=0.9999984,
        scale_floor=1.0 / 31.0,
        tensor_scale_dtype="float32",
        tensor_scale_of_zeros=1.0,
    )


FORMAT_NAMES = {
    "int8_rows": int8_rows,
    "int8_gate_rows": int8_gate_rows,
    "int6_rows": int6_rows,
    "int6_floor_rows": int6_floor_rows,
    "int6_clipped_rows": int6_clipped_rows,
    "int5_rows": int5_rows,
}
