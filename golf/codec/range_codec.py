"""Codes at their entropy: an adaptive, context-conditioned range coder for artifacts (codec=range).

Integer codes of matrices are coded by golf/codec/weight_stream.py, 16-bit floats as distances from the median of their
tensor (golf/codec/range_floats.py), everything else by the smaller of zlib and LZMA.
Section: mode u8, then what the mode wrote; the mode is the one with the fewest bytes. It also tells the format's
number: modes 1 and 2 were those of format 1.
Invariant: all models are integers (or exact floats): the same file on every machine. Needs numpy only.
Why not `constriction` (0.5): its Rust decoder takes about 120 ns for a code with a normal model of its own, before any
such model was made, where all of this codec's decoding takes about 200 ns; its models come from float functions of its
own build and do not adapt, and every record would need the package.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor

from golf.codec.layout import STORED_DTYPES, join_planes, split_planes, tensor_bytes, tensor_from_bytes
from golf.codec.lzma_codec import LzmaCodec
from golf.codec.parts import PartGroup
from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream
from golf.codec.range_floats import decode_floats, encode_floats
from golf.codec.range_weights import chain_streams, decode_weights, encode_weights, family_members
from golf.codec.zlib_codec import ZlibCodec
from golf.errors import UserError

PLAIN_MODE, WEIGHTS_MODE, FLOATS_MODE = 0, 3, 4
OLD_MODES = (1, 2)
FLOATS_LEAST_BYTES = 512
PLAIN_MOST_BYTES = 1 << 17


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
        packed = [ZlibCodec().encode(data), LzmaCodec().encode(data)]
        best = min((0, 1), key=lambda index: len(packed[index]))
        return bytes([best]) + packed[best]

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        if not data or data[0] > 1:
            raise damaged_stream(self.name, "truncated" if not data else "an unknown stream")
        inner = (ZlibCodec(), LzmaCodec())[data[0]]
        try:
            return inner.decode(data[1:], limit_bytes)
        except UserError as error:
            what = str(error).removeprefix(f"damaged {inner.name} stream (").partition("):")[0]
            raise damaged_stream(self.name, what) from error

    def encode_parts(self, group: PartGroup, tensors: Sequence[Tensor]) -> bytes:
        if group.dtype == "int8" and family_members(group):
            candidates = [bytes([WEIGHTS_MODE]) + self.encode_weights(group, tensors)]
            if group.raw_bytes() > PLAIN_MOST_BYTES:  # where LZMA takes a minute and is never smaller
                return candidates[0]
        elif group.dtype in ("float16", "bfloat16") and group.raw_bytes() >= FLOATS_LEAST_BYTES:
            coded = encode_floats(tensors)
            candidates = [bytes([FLOATS_MODE]) + coded] if coded else []
        else:
            candidates = []
        candidates.append(bytes([PLAIN_MODE]) + self.encode(plain_bytes(group, tensors)))
        return min(candidates, key=len)

    def decode_parts(self, group: PartGroup, data: bytes) -> list[Tensor]:
        if not data:
            raise damaged_stream(self.name, "truncated")
        if data[0] == PLAIN_MODE:
            return tensors_of_plain(group, self.decode(data[1:], group.raw_bytes()))
        if data[0] == WEIGHTS_MODE and group.dtype == "int8":
            return self.decode_weights(group, data[1:])
        if data[0] == FLOATS_MODE and group.dtype in ("float16", "bfloat16"):
            return decode_floats(group, data[1:])
        if data[0] in OLD_MODES:
            raise UserError(
                "packed by an older golf (range format 1, this one reads 2): pack it again with export.py run=<folder>"
            )
        raise damaged_stream(self.name, "an unknown mode")

    def encode_weights(self, group: PartGroup, tensors: Sequence[Tensor]) -> bytes:
        arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]
        head, recorders = encode_weights(group, arrays, self.predict_rows, self.ridge)
        kept = {index for indices in family_members(group).values() for index in indices}
        rest = b"".join(array.tobytes() for index, array in enumerate(arrays) if index not in kept)
        return head + chain_streams(recorders, self.encode(rest))

    def decode_weights(self, group: PartGroup, data: bytes) -> list[Tensor]:
        found, tail = decode_weights(group, data)
        missing = sum(prod(shape) for shape, tensor in zip(group.shapes, found) if tensor is None)
        rest = self.decode(tail, missing)
        if len(rest) != missing:
            raise damaged_stream(self.name, "its size differs")
        view, start, out = memoryview(rest), 0, []
        for shape, tensor in zip(group.shapes, found):
            if tensor is None:
                tensor = tensor_from_bytes(view[start : start + prod(shape)], group.dtype, shape, "plain")
                start += prod(shape)
            out.append(tensor)
        return out


def plain_bytes(group: PartGroup, tensors: Sequence[Tensor]) -> bytes:
    """The bytes of a section's tensors, high bytes after low ones."""
    raw = b"".join(tensor_bytes(tensor, "plain") for tensor in tensors)
    return split_planes(raw, STORED_DTYPES[group.dtype].itemsize)


def tensors_of_plain(group: PartGroup, planes: bytes) -> list[Tensor]:
    """The inverse of `plain_bytes`."""
    if len(planes) != group.raw_bytes():
        raise damaged_stream("range", "its size differs")
    itemsize = STORED_DTYPES[group.dtype].itemsize
    view, start, out = memoryview(join_planes(planes, itemsize)), 0, []
    for shape in group.shapes:
        end = start + prod(shape) * itemsize
        out.append(tensor_from_bytes(view[start:end], group.dtype, shape, "plain"))
        start = end
    return out
