"""What a codec is: bytes in, fewer bytes out, and back again, bit for bit and never past a bound.

A codec is any object with `name`, `encode` and `decode`; its YAML's `_target_` is the registration. A decoder never
trusts a length that the data declares: it stops at `limit_bytes`, so that no file can eat the machine.
Invariant: decode(encode(x)) == x, and encode gives the same bytes in every process with the same library version.
"""

from typing import Protocol

from golf.errors import UserError

DECODE_LIMIT_BYTES = 512 * 1024 * 1024


class Codec(Protocol):
    """Lossless compressor of byte strings."""

    name: str

    def encode(self, data: bytes) -> bytes:
        """Compress `data`."""
        ...

    def decode(self, data: bytes, limit_bytes: int = DECODE_LIMIT_BYTES) -> bytes:
        """Expand `data`.

        Raises:
            UserError: the stream is damaged, truncated, followed by more bytes, or longer than `limit_bytes`.
        """
        ...


def missing_package(codec: str, package: str) -> str:
    """The one line about a codec whose library is not installed."""
    return f"codec={codec} needs the package '{package}': pip install '{package}', or type codec=lzma"


def damaged_stream(codec: str, what: str) -> UserError:
    """The one-line error for a compressed stream that cannot be expanded."""
    return UserError(f"damaged {codec} stream ({what}): copy or pack the file again")


def require_level(codec: str, level: int, low: int, high: int) -> int:
    """Check a compression level at construction, so that a wrong one is refused before training starts."""
    if isinstance(level, bool) or not isinstance(level, int) or not low <= level <= high:
        raise UserError(f"codec.level={level} is outside {low}..{high} for codec={codec}: type codec.level={high}")
    return level
