"""No compression: the payload as it is, to measure what other codecs save and to pass states between stages."""

from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream


class NoCodec:
    """The identity."""

    name = "none"

    def encode(self, data: bytes) -> bytes:
        return bytes(data)

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        if len(data) > limit_bytes:
            raise damaged_stream(self.name, f"longer than the {limit_bytes:,} bytes declared")
        return bytes(data)
