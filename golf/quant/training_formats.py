"""Grids that published training runs rounded to and that are not the grid of their export.

Each keeps the scale in float32 where the exporter stores float16, and has the floors and code ranges of its record
(the dates are those of the published folders). They exist to reproduce the records; a run of one's own leaves
`qat.format` empty and trains on the grid that its `quant` plan exports.
"""

from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named


def training_rows(bits: int, floor: float = 0.0, symmetric: bool = True) -> QuantFormat:
    """`bits`-bit rows by their maximum with float32 scales; `floor` is the smallest scale."""
    code_max = 2 ** (bits - 1) - 1
    return QuantFormat(
        bits=bits,
        code_min=-code_max - (not symmetric),
        code_max=code_max,
        clip_floor=0.0 if floor else 1e-12,
        scale_floor=floor,
        scale_dtype="float32",
        tensor_scale_dtype="float32",
        tensor_scale_floor=floor,
    )


def training_quantile_rows() -> QuantFormat:
    """2026-03-19, STE int6: the quantile clips (at least 1e-8), no floor of the scale, codes -31..31."""
    return QuantFormat(
        bits=6, code_min=-31, code_max=31, clip_quantile=0.9999984, clip_floor=1e-8, scale_dtype="float32"
    )


def training_clip_floor_rows() -> QuantFormat:
    """2026-03-19, int6 with 10 layers: the maximum, at least 1/31, clips; codes -31..31."""
    return QuantFormat(bits=6, code_min=-31, code_max=31, clip_floor=1.0 / 31.0, scale_dtype="float32")


def training_step4_rows() -> QuantFormat:
    """2026-03-19, int6 as every fourth int8 code: -128..124, no floor."""
    return QuantFormat(
        bits=6, code_min=-128, code_max=124, scale_codes=127, step=4, clip_floor=1e-12, scale_dtype="float32"
    )


# Name -> the function that makes the format, and its arguments.
TRAINING_FORMAT_NAMES = {
    "training_int6_quantile": (training_quantile_rows,),
    "training_int6_clip_floor": (training_clip_floor_rows,),
    "training_int6_step4": (training_step4_rows,),
    "training_int8_rows": (training_rows, 8),
    "training_int8_floor_rows": (training_rows, 8, 1.0 / 127.0),
    "training_int6_rows": (training_rows, 6),
    "training_int6_floor_rows": (training_rows, 6, 1.0 / 31.0, False),
    "training_int6_symmetric_rows": (training_rows, 6, 1.0 / 31.0),
    "training_int5_rows": (training_rows, 5),
    "training_int4_rows": (training_rows, 4),
}


def training_format_named(name: str) -> QuantFormat:
    """The format of a name that is in FORMAT_NAMES or TRAINING_FORMAT_NAMES.

    Raises:
        UserError: it is in neither.
    """
    if name in FORMAT_NAMES:
        return format_named(name)
    if name not in TRAINING_FORMAT_NAMES:
        known = ", ".join([*FORMAT_NAMES, *TRAINING_FORMAT_NAMES])
        raise UserError(f"qat.format={name} is not known: use one of {known}")
    make, *arguments = TRAINING_FORMAT_NAMES[name]
    return make(*arguments)
