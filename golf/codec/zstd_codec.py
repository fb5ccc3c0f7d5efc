"""Zstandard, level 22: what most int6 records shipped.

One frame without checksum or content size: the container has both.
"""

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream, missing_package, require_level
from golf.errors import UserError

ZSTD_MAX_WINDOW_BYTES = 128 * 1024 * 1024


class ZstdCodec:
    """Zstandard frames, through the package `zstandard`.

    Args:
        level: 1 (fastest) to 22 (smallest).
    """

    name = "zstd"

    def __init__(self, level: int = 22) -> None:
        self.level = require_level(self.name, level, 1, 22)

    def encode(self, data: bytes) -> bytes:
        try:
            from zstandard import ZstdCompressor
        except ImportError as error:
            raise UserError(missing_package(self.name, "zstandard")) from error
        return ZstdCompressor(level=self.level, write_content_size=False, write_checksum=False).compress(data)

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        try:
            from zstandard import ZstdDecompressor
        except ImportError as error:
            raise UserError(missing_package(self.name, "zstandard")) from error
        if damage_of_frame(data, limit_bytes):
            raise damaged_stream(self.name, damage_of_frame(data, limit_bytes))
        return ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES).decompressobj().decompress(data)


def damage_of_frame(data: bytes, limit_bytes: int) -> str:
    """What keeps a frame from being expanded, found without holding more of it than a piece; "" if nothing does."""
    from zstandard import ZstdDecompressor, ZstdError

    stream, length = ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES).decompressobj(), 0
    try:
        # Fed in small pieces: 3 bytes (a run) can expand to a block of 128 KiB, so a piece to 43 MiB at most.
        for start in range(0, len(data), 1024):
            length += len(stream.decompress(data[start : start + 1024]))
            if length > limit_bytes:
                return f"longer than the {limit_bytes:,} bytes declared"
            if stream.eof:
                return "bytes after its end" if stream.unused_data or start + 1024 < len(data) else ""
    except ZstdError as error:
        return str(error)
    return "truncated"
