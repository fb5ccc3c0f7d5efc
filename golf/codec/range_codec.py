"""Codes at their entropy: an adaptive, context-conditioned range coder for artifacts (codec=range).

Integer codes of matrices are coded by golf/codec/range_weights.py, 16-bit floats as distances from what earlier ones
tell (golf/codec/range_floats.py), everything else by LZMA.
Section: mode u8, then what the mode wrote. It also tells the format's number: modes 0 to 10 were of formats 1 to 4.
Invariant: all models are integers (or exact floats): the same file on every machine. Needs numpy only.
Why not `constriction` (0.5): its Rust decoder takes about 120 ns for a code with a normal model of its own, before any
such model was made, where all of this codec's decoding takes about 200 ns; its models come from float functions of its
own build and do not adapt, and every record would need the package.
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from golf.codec.layout import STORED_DTYPES, join_planes, split_planes, tensor_bytes, tensor_from_bytes
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.parts import PartGroup
from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream
from golf.codec.range_floats import decode_floats, encode_floats
from golf.codec.range_weights import decode_matrices, encode_matrices, family_members
from golf.errors import UserError

PLAIN_MODE, WEIGHTS_MODE, FLOATS_MODE = 11, 12, 13
RANGE_FORMAT = 5
LZMA_HEAD_BYTES = 13  # the same in every stream of the same settings
NEAR_MEDIAN_DTYPES = ("float16", "bfloat16")


class RangeCodec:
    """The entropy coder of golf.

    Args:
        predict_rows: in families of at least this many rows per column, rows are predicted from the rows before
            (0 = never); tried and kept where it is smaller.
        ridge: rows of zeros that the prediction starts from.
    """

    name = "range"

    def __init__(self, predict_rows: int = 2, ridge: int = 256) -> None:
        if not 0 <= predict_rows < 2**16 or not 1 <= ridge < 2**16:
            given = f"codec.predict_rows={predict_rows} codec.ridge={ridge}"
            raise UserError(f"{given} is out of range (0…65535, 1…65535): type codec.predict_rows=2 codec.ridge=256")
        self.predict_rows = predict_rows
        self.ridge = ridge

    def encode(self, data: bytes) -> bytes:
        return bytes([PLAIN_MODE]) + LzmaCodec().encode(data)[LZMA_HEAD_BYTES:]

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        if data and data[0] < PLAIN_MODE:
            raise UserError(
                f"packed by an older golf (this one reads range format {RANGE_FORMAT}): "
                "pack it again with export.py run=<folder>"
            )
        if not data or data[0] > PLAIN_MODE:
            raise damaged_stream(self.name, "an unknown mode")
        try:
            return LzmaCodec().decode(LzmaCodec().encode(b"")[:LZMA_HEAD_BYTES] + data[1:], limit_bytes)
        except UserError as error:
            raise UserError(str(error).replace(LzmaCodec.name, self.name)) from error

    def encode_parts(self, group: PartGroup, tensors: Sequence[Tensor]) -> bytes:
        if group.dtype == "int8" and family_members(group.shapes, group.specs):
            arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]
            coded = encode_matrices(arrays, group.specs, group.known, self.predict_rows, self.ridge)
            return struct.pack("<BI", WEIGHTS_MODE, len(coded)) + coded + self.encode(plain_bytes(group, tensors, True))
        plain = self.encode(plain_bytes(group, tensors))
        coded = encode_floats(tensors) if group.dtype in NEAR_MEDIAN_DTYPES else b""
        return bytes([FLOATS_MODE]) + coded if coded and len(coded) < len(plain) else plain

    def decode_parts(self, group: PartGroup, data: bytes) -> list[Tensor]:
        if data[:1] == bytes([FLOATS_MODE]) and group.dtype in NEAR_MEDIAN_DTYPES:
            return decode_floats(group, data[1:])
        found, itemsize = {}, STORED_DTYPES[group.dtype].itemsize
        if data[:1] == bytes([WEIGHTS_MODE]) and group.dtype == "int8":
            end = 5 + struct.unpack("<I", data[1:5])[0]
            found = decode_matrices(group.shapes, group.specs, group.known, data[5:end])
            data = data[end:]
        sizes = [0 if index in found else prod(shape) * itemsize for index, shape in enumerate(group.shapes)]
        planes = self.decode(data, sum(sizes))
        if len(planes) != sum(sizes):
            raise damaged_stream(self.name, "its size differs")
        view, start, out = memoryview(join_planes(planes, itemsize)), 0, []
        for index, (shape, size) in enumerate(zip(group.shapes, sizes)):
            if index in found:
                codes = found[index].astype(np.int8)
                if (codes != found[index]).any():
                    raise damaged_stream(self.name, "a code that is no byte")
                out.append(torch.from_numpy(codes))
            else:
                out.append(tensor_from_bytes(view[start : start + size], group.dtype, shape))
            start += size
        return out


def plain_bytes(group: PartGroup, tensors: Sequence[Tensor], but_matrices: bool = False) -> bytes:
    """The bytes of a section's tensors, high bytes after low ones."""
    members = family_members(group.shapes, group.specs) if but_matrices else {}
    coded = {index for found in members.values() for index in found}
    raw = b"".join(tensor_bytes(tensor) for index, tensor in enumerate(tensors) if index not in coded)
    return split_planes(raw, STORED_DTYPES[group.dtype].itemsize)
