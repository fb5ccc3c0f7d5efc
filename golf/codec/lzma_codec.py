"""LZMA in its smallest container (13 bytes of header), with context bits chosen for weights rather than text.

Integer codes have no byte alignment and little literal context, so lc = lp = pb = 0 beats the defaults (3, 0, 2) by a
few tenths of a percent on trained int8 and int6 matrices.
"""

import lzma

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream, require_level

LZMA_MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024


class LzmaCodec:
    """LZMA1 streams (`.lzma`).

    Args:
        level: preset 0 to 9; the dictionary grows with it (64 MiB at 9).
        literal_context_bits: lc, 0 to 4: how many bits of the previous byte predict the next one.
        position_bits: pb, 0 to 4: alignment of the data as a power of two.
    """

    name = "lzma"

    def __init__(self, level: int = 9, literal_context_bits: int = 0, position_bits: int = 0) -> None:
        self.level = require_level(self.name, level, 0, 9)
        self.literal_context_bits = literal_context_bits
        self.position_bits = position_bits

    def encode(self, data: bytes) -> bytes:
        chain = {
            "id": lzma.FILTER_LZMA1,
            "preset": self.level | lzma.PRESET_EXTREME,
            "lc": self.literal_context_bits,
            "lp": 0,
            "pb": self.position_bits,
        }
        return lzma.compress(data, format=lzma.FORMAT_ALONE, filters=[chain])

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY_LIMIT_BYTES)
        try:
            out = stream.decompress(data, limit_bytes + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise damaged_stream(self.name, str(error)) from error
        if len(out) > limit_bytes:
            raise damaged_stream(self.name, f"longer than the {limit_bytes:,} bytes declared")
        if not stream.eof or stream.unused_data:
            raise damaged_stream(self.name, "truncated" if not stream.eof else "bytes after its end")
        return out
