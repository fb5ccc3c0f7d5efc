"""A section of 16-bit floats (scales of rows, small tensors) at the entropy of their logarithms.

The bits of positive floats rise with their logarithm. What is coded is the distance of each from the median of its
tensor: its upper part as a matrix of golf/codec/range_weights.py, its low bits as they are (noise). That
is within 1 % of normal distributions of known deviation for each tensor; distances from a running mean gain nothing.
Section: median of each tensor i16, the low bits, then the matrix.
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.layout import STORED_DTYPES
from golf.codec.parts import PartGroup
from golf.codec.range_weights import decode_matrices, encode_matrices

FLOAT_COLUMNS = 128
FLOATS_LEAST = 8 * FLOAT_COLUMNS
FLOAT_MOST = 160
FLOAT_LOW_BITS = {torch.float16: 5, torch.bfloat16: 2}


def ordered_bits(bits: np.ndarray) -> np.ndarray:
    """16-bit floats as integers -32768 … 32767 in their order (-0.0 just below 0.0), and back."""
    return np.where(bits < 0, -1 - (bits & 0x7FFF), bits)


def encode_floats(tensors: Sequence[Tensor]) -> bytes:
    """The section, or nothing where the numbers are few or too far from their medians."""
    if sum(tensor.numel() for tensor in tensors) < FLOATS_LEAST:
        return b""
    parts = [tensor.detach().cpu().reshape(-1).view(torch.int16).numpy().astype(np.int64) for tensor in tensors]
    parts = [ordered_bits(part) for part in parts]
    medians = [int(np.sort(part)[len(part) // 2]) if len(part) else 0 for part in parts]
    distance = np.concatenate([part - median for part, median in zip(parts, medians)])
    rows = -(-len(distance) // FLOAT_COLUMNS)
    values = np.zeros((rows, FLOAT_COLUMNS), dtype=np.int64)
    values.reshape(-1)[: len(distance)] = distance
    low_bits = FLOAT_LOW_BITS[tensors[0].dtype]
    upper = values >> low_bits
    if np.abs(upper).max() > FLOAT_MOST:
        return b""
    low = np.packbits(values[:, :, None] >> np.arange(low_bits) & 1)
    matrix = encode_matrices([upper.astype(np.int16)], [("", {})], (), 0, 1)
    return struct.pack(f"<{len(medians)}h", *medians) + low.tobytes() + matrix


def decode_floats(group: PartGroup, data: bytes) -> list[Tensor]:
    """The tensors of a section."""
    counts = [prod(shape) for shape in group.shapes]
    rows = -(-sum(counts) // FLOAT_COLUMNS)
    low_bits, start = FLOAT_LOW_BITS[STORED_DTYPES[group.dtype]], 2 * len(counts)
    end = start + rows * FLOAT_COLUMNS * low_bits // 8
    medians = struct.unpack(f"<{len(counts)}h", data[:start])
    bits = np.unpackbits(np.frombuffer(data[start:end], dtype=np.uint8)).reshape(rows, FLOAT_COLUMNS, low_bits)
    low = (bits.astype(np.int64) << np.arange(low_bits)).sum(axis=2)
    upper = decode_matrices([low.shape], [("", {})], (), data[end:])[0]
    values = (upper.astype(np.int64) << low_bits) + low
    out, first = [], 0
    for shape, count, median in zip(group.shapes, counts, medians):
        ordered = values.reshape(-1)[first : first + count] + median
        bits = ordered_bits(ordered.astype(np.int16).astype(np.int64))
        out.append(torch.from_numpy(bits.astype(np.int16)).view(STORED_DTYPES[group.dtype]).reshape(shape))
        first += count
    return out
