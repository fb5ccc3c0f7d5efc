"""A section of 16-bit floats (scales of rows, small tensors) at the entropy of their logarithms.

The bits of positive floats rise with their logarithm. What is coded is the distance of each from the median of its
tensor: its upper part by the model of golf/codec/weight_stream.py, its low five bits as they are (they are noise).
Section: median of each tensor i16, mean square f16, then the chained stream, then the low bits.
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.layout import STORED_DTYPES
from golf.codec.parts import PartGroup
from golf.codec.protocol import damaged_stream
from golf.codec.range_weights import ChainReader, chain_streams, lanes_for
from golf.codec.weight_model import AdaptiveTables
from golf.codec.weight_stream import StepRecorder, WeightFamily, code_family

FLOAT_COLUMNS = 64
FLOAT_REACH = 160
FLOAT_LOW_BITS = 5


def ordered_bits(tensor: Tensor) -> np.ndarray:
    """16-bit floats as integers -32768 … 32767 in their order (-0.0 just below 0.0)."""
    bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.int16).numpy().astype(np.int64)
    return np.where(bits < 0, -1 - (bits & 0x7FFF), bits)


def float_family(count: int, square: float) -> tuple[WeightFamily, int]:
    """The shape in which `count` numbers are coded: rows that learn from their beginning, columns that tell nothing."""
    rows = -(-count // FLOAT_COLUMNS)
    family = WeightFamily(
        (rows,),
        np.array([min(max(square, 2.0**-8), 2.0**15)]),
        np.ones((FLOAT_COLUMNS, 1)),
        np.array([2**20]),
        8,
        lanes_for(rows, FLOAT_COLUMNS),
    )
    return family, rows


def encode_floats(tensors: Sequence[Tensor]) -> bytes:
    """The section, or nothing where the numbers are too far from their medians."""
    ordered = [ordered_bits(tensor) for tensor in tensors]
    medians = [int(np.sort(values)[len(values) // 2]) if len(values) else 0 for values in ordered]
    distance = np.concatenate([values - median for values, median in zip(ordered, medians)])
    upper, low = distance >> FLOAT_LOW_BITS, distance & (1 << FLOAT_LOW_BITS) - 1
    if np.abs(upper).max(initial=0) > FLOAT_REACH:
        return b""
    square = float(np.float16(int((upper * upper).sum()) / max(1, len(upper))))
    family, rows = float_family(len(upper), square)
    values = np.zeros((rows, FLOAT_COLUMNS))
    values.reshape(-1)[: len(upper)] = upper
    recorder = StepRecorder(family.lanes)
    code_family(family, AdaptiveTables(FLOAT_REACH), recorder, values)
    tail = np.packbits(low[:, None] >> np.arange(FLOAT_LOW_BITS) & 1).tobytes()
    return struct.pack(f"<{len(medians)}he", *medians, square) + chain_streams([recorder], tail)


def decode_floats(group: PartGroup, data: bytes) -> list[Tensor]:
    """The tensors of a section."""
    counts = [prod(shape) for shape in group.shapes]
    layout = f"<{len(counts)}heII"
    if len(data) < struct.calcsize(layout):
        raise damaged_stream("range", "truncated")
    *medians, square, length, tail_length = struct.unpack_from(layout, data)
    total = sum(counts)
    if tail_length != (total * FLOAT_LOW_BITS + 7) // 8:
        raise damaged_stream("range", "its size differs")
    family, rows = float_family(total, square)
    values = np.zeros((rows, FLOAT_COLUMNS))
    chain = ChainReader(data[struct.calcsize(layout) :], (length, tail_length))
    reader = chain.open(family.lanes)
    code_family(family, AdaptiveTables(FLOAT_REACH), reader, values)
    chain.close(reader)
    bits = np.unpackbits(np.frombuffer(chain.finish(), dtype=np.uint8), count=total * FLOAT_LOW_BITS)
    low = (bits.reshape(-1, FLOAT_LOW_BITS).astype(np.int64) << np.arange(FLOAT_LOW_BITS)).sum(axis=1)
    distance = (values.reshape(-1)[:total].astype(np.int64) << FLOAT_LOW_BITS) + low
    out, start = [], 0
    for shape, count, median in zip(group.shapes, counts, medians):
        ordered = distance[start : start + count] + median
        if len(ordered) and not -32768 <= ordered.min() <= ordered.max() <= 32767:
            raise damaged_stream("range", "a number that is no float")
        bits = np.where(ordered < 0, (-1 - ordered) - 32768, ordered).astype(np.int16)
        out.append(torch.from_numpy(bits).view(STORED_DTYPES[group.dtype]).reshape(shape))
        start += count
    return out
