"""Frozen weight formats: the one description of a grid that training, export, packer and size forecast all read.

A format says which codes a weight may take and how the scale of a row, of a group of a row's elements, or of a whole
tensor is made from its weights w:

    clip  = factor · (max |w|, its linearly interpolated quantile, mean |w|, or the deviation), at least a floor
    scale = max(clip / scale_codes, floor)       in float32, stored as float16, bfloat16 or float32
    code  = clamp(round(w / scale), code_min, code_max), perhaps re-rounded to a multiple of `step`

`self_consistent` formats divide by the scale as stored; the others divide by the float32 scale (the baseline's habit, a
relative mismatch of at most 2^-11). Invariant: a format is immutable, and equal formats give equal codes.
"""

from dataclasses import dataclass
from math import prod

from torch import Size

from golf.errors import UserError

FLOAT16_TINY = 2.0**-14
SCALE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
GRANULARITIES = ("row", "group", "tensor", "none")
CLIP_RULES = ("absmax", "absmean", "deviation")
NUMBERS = ("integer", "float8_e4m3")
FLOAT8_MAX = 448
MOST_PADDING = 2**26  # elements that rows shorter than a group may be filled up with


@dataclass(frozen=True)
class QuantFormat:
    """A grid and the rule of its scales. Matrices may be stacked: [N, R, C] are N·R rows.

    Args:
        bits: bits that an honest packer needs per code before entropy coding (a code is kept in one byte).
        code_min, code_max: the codes in use.
        granularity: "row" (one scale per row of a matrix), "group" (one per `group_size` neighbours in a row, the last
            group filled up with zeros), "tensor" (always one) or "none" (the scale is 1). A tensor that is no matrix
            and no stack of matrices has one scale.
        group_size: elements per group.
        clip: what becomes `scale_codes`: the largest magnitude, the mean magnitude or the standard deviation (N - 1).
        clip_quantile: quantile of |w| in place of the largest magnitude; larger weights are cut off.
        clip_factor, clip_floor: multiplies the clip; its smallest value.
        scale_codes: divides the clip; None is code_max.
        step: codes are re-rounded to multiples of it (the limits stay reachable).
        scale_floor: smallest scale of a row or group, applied before rounding to the stored type.
        stored_floor: smallest scale of a row or group after rounding (float16's smallest normal keeps scales exact).
        scale_dtype: how a scale of a row or group is stored.
        tensor_scale_dtype: how the single scale of a tensor without rows is stored.
        tensor_scale_floor: smallest single scale.
        tensor_scale_of_zeros: the single scale of a tensor that is all zeros (before its floor).
        self_consistent: codes are made with the scale as stored.
        keep_mean: decoding divides by the mean |code| of the row, group or tensor, so that a ternary network finds the
            same codes and scales again when it makes them anew from the decoded weights.
        number: what a code is: an integer, or a float8 (e4m3) whose largest value is code_max.
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
    group_size: int = 0
    clip: str = "absmax"
    clip_factor: float = 1.0
    clip_floor: float = 0.0
    scale_codes: int | None = None
    step: int = 1
    keep_mean: bool = False
    number: str = "integer"

    def __post_init__(self) -> None:
        for name, known in (("granularity", GRANULARITIES), ("clip", CLIP_RULES), ("number", NUMBERS)):
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"{name} '{value}' is not known: type {' or '.join(f'{name}={k}' for k in known)}")
        for dtype in (self.scale_dtype, self.tensor_scale_dtype):
            if dtype not in SCALE_BYTES:
                raise UserError(f"scale dtype '{dtype}' is not known: use one of {', '.join(SCALE_BYTES)}")
        if self.number == "integer":
            self._check_codes()
        elif self.bits != 8:
            raise UserError(f"number={self.number} has 8 bits, not {self.bits}: type bits=8")
        if (self.granularity == "group") != (self.group_size > 0):
            raise UserError(
                f"granularity={self.granularity} with group_size={self.group_size}: a group needs a size, and only a "
                "group has one; type granularity=group group_size=128"
            )
        if self.clip_quantile is not None and not 0.0 < self.clip_quantile <= 1.0:
            raise UserError(f"clip_quantile={self.clip_quantile} is outside (0, 1]: type clip_quantile=0.9999984")
        if self.clip_quantile is not None and self.clip != "absmax":
            raise UserError(f"clip={self.clip} and clip_quantile={self.clip_quantile}: choose one of them")
        if self.scale_codes is not None and self.scale_codes < 1:
            raise UserError(f"scale_codes={self.scale_codes} must be at least 1: type scale_codes={self.code_max}")

    def _check_codes(self) -> None:
        if not (1 <= self.code_max <= 127 and -128 <= self.code_min <= 0):
            raise UserError(f"codes {self.code_min}..{self.code_max} do not fit one signed byte: use -128..127 at most")
        if type(self.bits) is not int or not 1 <= self.bits <= 8:
            raise UserError(f"bits={self.bits} must be 1 to 8 (a code is kept in one byte): type bits=6")
        if not 1 <= self.step <= 127:
            raise UserError(f"step={self.step} must be 1 (every code) to 127: type step=4 for multiples of 4")
        if self.levels > 2**self.bits:
            raise UserError(
                f"codes {self.code_min}..{self.code_max} need more than {self.bits} bits: type bits="
                f"{(self.levels - 1).bit_length()}"
            )

    @property
    def levels(self) -> int:
        """Number of values that a code can have."""
        if self.number != "integer":
            return 2**self.bits
        within = self.code_max // self.step + -self.code_min // self.step + 1
        return within + (self.code_max % self.step > 0) + (-self.code_min % self.step > 0)

    @property
    def only_format(self) -> "QuantFormat":
        """What tensors quantised so are in; other treatments that make one format say which."""
        return self

    @property
    def divisor(self) -> int:
        """What the clip is divided by to give the scale."""
        return self.code_max if self.scale_codes is None else self.scale_codes

    def has_rows(self, shape: tuple[int, ...] | Size) -> bool:
        """Whether a tensor of this shape gets more than one scale: matrices and stacks of matrices do."""
        return self.granularity in ("row", "group") and len(shape) in (2, 3)

    def groups(self, columns: int) -> int:
        """Scales per row of this many elements."""
        return -(-columns // self.group_size) if self.granularity == "group" else 1

    def padded(self, shape: tuple[int, ...] | Size) -> int:
        """Elements of a tensor of this shape, its rows filled up to whole groups.

        Raises:
            UserError: groups so much longer than the rows that filling up would take the memory.
        """
        elements = prod(shape)
        if self.granularity != "group" or not self.has_rows(shape):
            return elements
        filled = prod(shape[:-1]) * self.groups(shape[-1]) * self.group_size
        if filled - elements > max(MOST_PADDING, 8 * elements):
            raise UserError(
                f"groups of {self.group_size:,} elements in rows of {shape[-1]:,}: type group_size={max(1, shape[-1])}"
            )
        return filled

    def scale_shape(self, shape: tuple[int, ...] | Size) -> tuple[int, ...]:
        """Shape of the scales: [R] or [N, R] with rows, [R, G] or [N, R, G] with groups, else []."""
        if not self.has_rows(shape):
            return ()
        rows = tuple(shape[:-1])
        return (*rows, self.groups(shape[-1])) if self.granularity == "group" else rows

    def payload_bytes(self, shape: tuple[int, ...] | Size) -> int:
        """Bytes of codes and scales before compression, one byte per code."""
        dtype = self.scale_dtype if self.has_rows(shape) else self.tensor_scale_dtype
        return prod(shape) + prod(self.scale_shape(shape)) * SCALE_BYTES[dtype]


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


def absmax_rows(bits: int, group_size: int = 0) -> QuantFormat:
    """`bits`-bit rows by their maximum, full two's-complement range, no absolute floor (records of 2026-03-20)."""
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max - 1,
        code_max=code_max,
        granularity="group" if group_size else "row",
        group_size=group_size,
        scale_floor=1e-12,
        stored_floor=FLOAT16_TINY,
        tensor_scale_floor=1e-12,
        self_consistent=True,
    )


def floor_rows(bits: int, symmetric: bool = False) -> QuantFormat:
    """`bits`-bit rows by their maximum with the floor 1/code_max: a uniform step for rows below 1.

    Two's-complement codes are the records of 2026-03-21, symmetric ones those from 2026-03-22 on.
    """
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max - (not symmetric),
        code_max=code_max,
        scale_floor=1.0 / code_max,
        tensor_scale_of_zeros=1.0,
        self_consistent=True,
    )


def clipped_rows(bits: int) -> QuantFormat:
    """`bits`-bit rows made like the baseline's int8 (records of 2026-03-19): quantile clip, floor, symmetric codes."""
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max,
        code_max=code_max,
        clip_quantile=0.9999984,
        scale_floor=1.0 / code_max,
        tensor_scale_dtype="float32",
        tensor_scale_of_zeros=1.0,
    )


def deviation_rows(bits: int, factor: float) -> QuantFormat:
    """`bits`-bit rows clipped at `factor` standard deviations (records from 2026-04-05 on): a monotone knob of size."""
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max,
        code_max=code_max,
        clip="deviation",
        clip_factor=factor,
        scale_floor=1e-10,
        tensor_scale_floor=1e-10,
        self_consistent=True,
    )


def multiples_of_4_rows(code_min: int, code_max: int, bits: int) -> QuantFormat:
    """The baseline's int8 with codes re-rounded to multiples of 4 (records of 2026-03-19), which compress better."""
    return QuantFormat(
        bits=bits,
        code_min=code_min,
        code_max=code_max,
        clip_quantile=0.9999984,
        scale_codes=127,
        step=4,
        scale_floor=1.0 / 127.0,
        tensor_scale_dtype="float32",
        tensor_scale_of_zeros=1.0,
    )


def ternary_groups(group_size: int = 128, keep_mean: bool = True, scale_dtype: str = "float16") -> QuantFormat:
    """Codes -1, 0, 1 with the mean magnitude of each group as scale (record of 2026-03-24; arXiv 2402.17764).

    `keep_mean` is for export: the decoded weights give the same codes and scales when they are made ternary again.
    """
    return QuantFormat(
        bits=2,
        code_min=-1,
        code_max=1,
        granularity="group",
        group_size=group_size,
        clip="absmean",
        scale_floor=1e-8,
        scale_dtype=scale_dtype,
        tensor_scale_dtype=scale_dtype,
        tensor_scale_floor=1e-8,
        self_consistent=True,
        keep_mean=keep_mean,
    )


def fp8_e4m3() -> QuantFormat:
    """Each weight as an 8-bit float, 4 bits of exponent and 3 of mantissa, without a scale (record of 2026-03-24)."""
    return QuantFormat(bits=8, code_min=-FLOAT8_MAX, code_max=FLOAT8_MAX, granularity="none", number="float8_e4m3")


# Name -> the function that makes the format, and its arguments.
FORMAT_NAMES = {
    "int8_rows": (int8_rows,),
    "int8_gate_rows": (int8_gate_rows,),
    "int8_absmax_rows": (absmax_rows, 8),
    "int7_rows": (absmax_rows, 7),
    "int6_rows": (absmax_rows, 6),
    "int5_rows": (absmax_rows, 5),
    "int4_rows": (absmax_rows, 4),
    "int3_rows": (absmax_rows, 3),
    "int2_rows": (absmax_rows, 2),
    "int6_groups": (absmax_rows, 6, 128),
    "int5_groups": (absmax_rows, 5, 128),
    "int4_groups": (absmax_rows, 4, 128),
    "int6_floor_rows": (floor_rows, 6),
    "int6_symmetric_rows": (floor_rows, 6, True),
    "int5_symmetric_rows": (floor_rows, 5, True),
    "int6_clipped_rows": (clipped_rows, 6),
    "int6_step4_rows": (multiples_of_4_rows, -128, 124, 6),
    "int8_step4_rows": (multiples_of_4_rows, -127, 127, 7),
    "int8_deviation_rows": (deviation_rows, 8, 20.0),
    "int6_deviation_rows": (deviation_rows, 6, 12.85),
    "ternary_128": (ternary_groups, 128),
    "ternary_64": (ternary_groups, 64),
    "fp8_e4m3": (fp8_e4m3,),
}


def format_named(name: str) -> QuantFormat:
    """The format of a name that is in FORMAT_NAMES."""
    make, *arguments = FORMAT_NAMES[name]
    return make(*arguments)
