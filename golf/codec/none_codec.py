"""No compression: the payload as it is, for measuring what the other codecs save and for passing states between stages."""

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
