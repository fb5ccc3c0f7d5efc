"""Brotli, quality 11: the general-purpose compressor that the later int6 records shipped."""

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream, missing_package, require_level
from golf.errors import UserError


class BrotliCodec:
    """Brotli streams, through the package `brotli` (1.2 or newer, whose decoder can be bounded).

    Args:
        level: quality, 0 (fastest) to 11 (smallest).
        window_bits: 10 to 24, the logarithm of the sliding window.
    """

    name = "brotli"

    def __init__(self, level: int = 11, window_bits: int = 24) -> None:
        self.level = require_level(self.name, level, 0, 11)
        self.window_bits = window_bits

    def encode(self, data: bytes) -> bytes:
        try:
            from brotli import compress
        except ImportError as error:
            raise UserError(missing_package(self.name, "brotli>=1.2")) from error
        return compress(data, quality=self.level, lgwin=self.window_bits)

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        try:
            from brotli import Decompressor, error
        except ImportError as missing:
            raise UserError(missing_package(self.name, "brotli>=1.2")) from missing
        stream = Decompressor()
        if not hasattr(stream, "can_accept_more_data"):
            raise UserError(missing_package(self.name, "brotli>=1.2"))
        out = bytearray()
        pending = data
        try:
            while not stream.is_finished():
                piece = stream.process(pending, output_buffer_limit=max(1, limit_bytes + 1 - len(out)))
                pending = b""
                out += piece
                if len(out) > limit_bytes:
                    raise damaged_stream(self.name, f"longer than the {limit_bytes:,} bytes declared")
                if not piece and stream.can_accept_more_data() and not stream.is_finished():
                    raise damaged_stream(self.name, "truncated")
        except error as problem:
            raise damaged_stream(self.name, str(problem) or "not decodable") from problem
        return bytes(out)
