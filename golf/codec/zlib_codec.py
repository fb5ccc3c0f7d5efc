"""DEFLATE (zlib level 9): the baseline's compressor. In the standard library, so it is always there."""

import zlib

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream, require_level


class ZlibCodec:
    """zlib streams with their Adler checksum.

    Args:
        level: 0 (store) to 9 (smallest).
    """

    name = "zlib"

    def __init__(self, level: int = 9) -> None:
        self.level = require_level(self.name, level, 0, 9)

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data, self.level)

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        stream = zlib.decompressobj()
        try:
            out = stream.decompress(data, limit_bytes + 1)
        except zlib.error as error:
            raise damaged_stream(self.name, str(error)) from error
        if len(out) > limit_bytes:
            raise damaged_stream(self.name, f"longer than the {limit_bytes:,} bytes declared")
        if not stream.eof or stream.unused_data:
            raise damaged_stream(self.name, "truncated" if not stream.eof else "bytes after its end")
        return out
