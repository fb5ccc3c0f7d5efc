"""A section of 16-bit floats (scales of rows, small tensors) at the entropy of what earlier ones do not tell.

Each vector is predicted from one before it that is as long (residual mixing coefficients follow those of the layer
before, in the first layer exactly):

    x ~ slope·y + offset,    y = 0 where no vector helps

The line of numbers is cut into cells of one width, a power of two, for each vector. How many cells lie between x and
its prediction is coded as a matrix of golf/codec/range_weights.py; which of the floats of its cell x is, as it is
(noise). That is within 2 % of normal distributions of known deviation about the prediction.
Section: of each vector, number of y u8 (0: zeros), slope i8, exponent of the width i8, place of the offset among all
floats i16; bytes of the matrix u32; the matrix; the places of the floats in their cells, in as many bits as those need.
Invariant: predictions and cells are single float64 operations: the same on every machine.
"""

import struct
from collections.abc import Sequence
from math import frexp, fsum, prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.layout import STORED_DTYPES
from golf.codec.parts import PartGroup
from golf.codec.range_weights import decode_matrices, encode_matrices

FLOAT_COLUMNS = 128
FLOATS_LEAST = 8 * FLOAT_COLUMNS
FLOAT_VECTOR_LEAST = 64
FLOAT_MOST = 160
FLOAT_LAYOUT = "Bbbh"
FLOAT_SLOPE_ONE = 64
FLOAT_CELL_BITS = 2
FLOAT_BITS = 16


def ordered_bits(bits: np.ndarray) -> np.ndarray:
    """16-bit floats as integers -32768 … 32767 in their order (-0.0 just below 0.0), and back."""
    return np.where(bits < 0, -1 - (bits & 0x7FFF), bits)


def places_of(values: Tensor) -> np.ndarray:
    """The places of 16-bit floats in their order."""
    return ordered_bits(values.contiguous().view(torch.int16).numpy().astype(np.int64))


def floats_at(places: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The floats at places in their order."""
    bits = ordered_bits(places.astype(np.int16).astype(np.int64))
    return torch.from_numpy(bits.astype(np.int16)).view(dtype)


def finite(values: Tensor) -> np.ndarray:
    return np.nan_to_num(values.double().numpy(), posinf=0.0, neginf=0.0)


def expected_cells(earlier: np.ndarray, dtype: torch.dtype, slope: int, exponent: int, offset: int) -> np.ndarray:
    """In which cells the floats of a vector are expected, from an earlier vector."""
    values = earlier * (slope / FLOAT_SLOPE_ONE) + finite(floats_at(np.array([offset]), dtype))
    return np.floor(values / 2.0**exponent)


def places_in_cells(cells: np.ndarray, exponent: int, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The place of the first float of each cell, and which of 16 bits [cells, 16] tell the floats of a cell apart."""
    first, after = (places_of(torch.from_numpy((cells + i) * 2.0**exponent).float().to(dtype)) for i in (0, 1))
    return first, np.frexp((after - first - 1).clip(0))[1][:, None] > np.arange(FLOAT_BITS)


def vector_shapes(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Lengths of the vectors that tensors consist of."""
    lengths = [shape[-1] if len(shape) > 1 and shape[-1] >= FLOAT_VECTOR_LEAST else prod(shape) for shape in shapes]
    return [length for shape, length in zip(shapes, lengths) if length for _ in range(prod(shape) // length)]


def fit_vector(values: Tensor, earlier: Sequence[np.ndarray]) -> tuple[int, int, int, int]:
    """The number of the best of `earlier` vectors, its slope, the exponent of the cells' width, and the offset."""
    target, tried = finite(values), []
    for number, vector in enumerate(earlier):
        centred = vector - fsum(vector) / len(vector)
        slope = FLOAT_SLOPE_ONE * fsum(centred * target) / max(fsum(centred * centred), 1e-30)
        slope = round(max(-128.0, min(127.0, slope)))
        rest = target - vector * (slope / FLOAT_SLOPE_ONE)
        middle = torch.from_numpy(np.sort(rest)[len(rest) // 2 :][:1]).float().to(values.dtype)
        distance = np.abs(rest - finite(middle))
        mean, most = fsum(distance) / len(distance), float(distance.max())
        least = max(mean / 2**FLOAT_CELL_BITS, most / FLOAT_MOST, float(np.abs(target).max()) / 2.0**40, 2.0**-120)
        tried.append((mean, number, slope, frexp(least)[1], int(places_of(middle)[0])))
    return min(tried)[1:]


def encode_floats(tensors: Sequence[Tensor]) -> bytes:
    """The section, or nothing where the numbers are few or not all finite."""
    if sum(tensor.numel() for tensor in tensors) < FLOATS_LEAST:
        return b""
    everything = torch.cat([tensor.detach().cpu().reshape(-1) for tensor in tensors])
    if not everything.isfinite().all():
        return b""
    lengths, dtype = vector_shapes([tuple(tensor.shape) for tensor in tensors]), everything.dtype
    known: dict[int, list[np.ndarray]] = {}
    head, steps, low = b"", [], []
    for values in everything.split(lengths):
        earlier = known.setdefault(len(values), [np.zeros(len(values))])
        number, slope, exponent, offset = fit_vector(values, earlier[:256])
        places = places_of(values)
        cells = np.floor(finite(values) / 2.0**exponent) - (places == -1)
        first, mask = places_in_cells(cells, exponent, dtype)
        head += struct.pack("<" + FLOAT_LAYOUT, number, slope, exponent, offset)
        steps.append(cells - expected_cells(earlier[number], dtype, slope, exponent, offset))
        low.append(((places - first)[:, None] >> np.arange(FLOAT_BITS) & 1)[mask])
        earlier.append(finite(values))
    matrix = np.zeros((-(-len(everything) // FLOAT_COLUMNS), FLOAT_COLUMNS), dtype=np.int16)
    matrix.reshape(-1)[: len(everything)] = np.concatenate(steps)
    coded = encode_matrices([matrix], [("", {})], (), 0, 1)
    return head + struct.pack("<I", len(coded)) + coded + np.packbits(np.concatenate(low)).tobytes()


def decode_floats(group: PartGroup, data: bytes) -> list[Tensor]:
    """The tensors of a section."""
    lengths, dtype = vector_shapes(group.shapes), STORED_DTYPES[group.dtype]
    layout = "<" + FLOAT_LAYOUT * len(lengths) + "I"
    start = struct.calcsize(layout)
    *settings, size = struct.unpack(layout, data[:start])
    rows = -(-sum(lengths) // FLOAT_COLUMNS)
    steps = decode_matrices([(rows, FLOAT_COLUMNS)], [("", {})], (), data[start : start + size])[0].reshape(-1)
    low = np.unpackbits(np.frombuffer(data[start + size :], dtype=np.uint8)).astype(np.int64)
    known: dict[int, list[np.ndarray]] = {}
    found = []
    for length, (number, *setting) in zip(lengths, zip(*[iter(settings)] * len(FLOAT_LAYOUT))):
        earlier = known.setdefault(length, [np.zeros(length)])
        cells = steps[:length] + expected_cells(earlier[number], dtype, *setting)
        places, mask = places_in_cells(cells, setting[1], dtype)
        bits = np.zeros(mask.shape, dtype=np.int64)
        bits[mask] = low[: mask.sum()]
        found.append(floats_at(places + (bits << np.arange(FLOAT_BITS)).sum(axis=1), dtype))
        earlier.append(finite(found[-1]))
        steps, low = steps[length:], low[mask.sum() :]
    counts = [prod(shape) for shape in group.shapes]
    return [part.reshape(shape) for part, shape in zip(torch.cat(found).split(counts), group.shapes)]
