"""Rounding to narrow float types in float32 arithmetic: round half to even, subnormals included.

A compiler may merge the casts float32 -> float16 -> float32 into nothing, and a graph that rounds no scale trains on
another grid than the exporter writes. Bits and sums cannot be merged away, and they have a derivative (of one).
Invariant: `round_to_float` gives what `cast_to_float` gives wherever that is finite (float8 needs |x| <= 448).
"""

import torch
from torch import Tensor

from golf.codec.layout import torch_dtype

# name -> (bits of mantissa, exponent of the smallest normal number)
NARROW_FLOATS = {"float16": (10, -14), "bfloat16": (7, -126), "float8_e4m3": (3, -6)}


def cast_to_float(values: Tensor, name: str) -> Tensor:
    """float32 `values` rounded to the named type, still float32: outside of graphs, where a cast is a cast."""
    return values.to(torch.float8_e4m3fn if name == "float8_e4m3" else torch_dtype(name)).float()


def round_to_float(values: Tensor, name: str) -> Tensor:
    """float32 `values` rounded to the named type, still float32; the gradient passes through."""
    if name == "float32":
        return values
    mantissa, smallest = NARROW_FLOATS[name]
    plain = values.detach()
    dropped = 23 - mantissa
    bits = plain.view(torch.int32)
    half = 2 ** (dropped - 1) - 1
    bits = (bits + half + ((bits >> dropped) & 1)) & -(2**dropped)
    normal = bits.view(torch.float32)
    if name != "bfloat16":  # which has the exponents of float32, so that its subnormals are rounded by the same bits
        step = 2.0 ** (smallest - mantissa)
        normal = torch.where(plain.abs() < 2.0**smallest, torch.round(plain / step) * step, normal)
    return normal + (values - plain)
