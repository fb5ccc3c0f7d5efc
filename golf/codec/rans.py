"""Range coding of many symbols at once: interleaved rANS, whose lanes advance together in numpy (arXiv 1402.3392).

Every lane has a state x in [2^24, 2^40). Coding a symbol with frequency f of 2^16 that starts at c:

    encode: if x >= f·2^24: emit 16 bits of x;    x <- (x div f)·2^16 + (x mod f) + c
    decode: s with c <= x mod 2^16 < c + f;       x <- f·(x div 2^16) + (x mod 2^16) - c;   if x < 2^24: read 16 bits

The encoder runs backwards over what the decoder reads forwards, so one stream of 16-bit words serves all lanes. Where
the encoder starts is where the decoder ends: 2^24 plus 24 bits of any other data, so that lanes cost next to nothing
(`seed`). All arithmetic is on integers: a file decodes to the same symbols on every machine.
Invariant: a decoder never reads past the words it was given, and ends with every state in [2^24, 2^25).
"""

from collections.abc import Sequence

import numpy as np

from golf.codec.protocol import damaged_stream

PROBABILITY_BITS = 16
PROBABILITY_ONE = 1 << PROBABILITY_BITS
RANS_LOW = 1 << 24
SEED_BYTES = 3
STATE_BYTES = 5


def little_endian(numbers: np.ndarray, count: int) -> bytes:
    """The low `count` bytes of each number."""
    return numbers.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :count].tobytes()


def from_little_endian(data: bytes, count: int) -> np.ndarray:
    """The inverse of `little_endian`, as int64."""
    wide = np.zeros((len(data) // count, 8), dtype=np.uint8)
    wide[:, :count] = np.frombuffer(data, dtype=np.uint8).reshape(-1, count)
    return wide.reshape(-1).view("<i8").astype(np.int64)


def rans_encode(
    starts: Sequence[np.ndarray], frequencies: Sequence[np.ndarray], lanes: int, seed: bytes = b""
) -> bytes:
    """Encode steps, in the order in which they will be decoded.

    Args:
        starts, frequencies: for each step, the start (0 … 65535) and frequency (1 … 65536) of the symbols of its first
            lanes, in two arrays of one length of at most `lanes`.
        lanes: number of states.
        seed: up to 3 bytes per lane that the decoder will find in its last states (filled up with zeros).

    Returns:
        The final states (5 bytes each, lane after lane), then the 16-bit words in the decoder's order.
    """
    state = RANS_LOW + from_little_endian(seed.ljust(SEED_BYTES * lanes, b"\0"), SEED_BYTES)
    words = []
    for start, frequency in zip(reversed(starts), reversed(frequencies)):
        x = state[: len(start)]
        f = frequency.astype(np.int64)
        full = x >= f << 24
        words.append(x[full].astype("<u2"))
        x = np.where(full, x >> 16, x)
        state[: len(start)] = x + (x // f) * (PROBABILITY_ONE - f) + start
    return little_endian(state, STATE_BYTES) + b"".join(piece.tobytes() for piece in reversed(words))


class RansDecoder:
    """Decodes what `rans_encode` wrote, one step at a time."""

    def __init__(self, data: bytes, lanes: int) -> None:
        head = STATE_BYTES * lanes
        if len(data) < head or (len(data) - head) % 2:
            raise damaged_stream("range", "truncated")
        self.state = from_little_endian(data[:head], STATE_BYTES)
        self.words = np.frombuffer(data, dtype="<u2", offset=head).astype(np.int64)
        self.position = 0

    def decode(self, cumulative: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The symbols of one step.

        Args:
            cumulative: [tables, 2^k + 1], each row rising from 0 to 65536 and then constant.
            rows: the table of each of the first lanes.
        """
        x = self.state[: len(rows)]
        slot = x & (PROBABILITY_ONE - 1)
        width = cumulative.shape[1]
        flat = cumulative.reshape(-1)
        base = rows * width
        found = base.copy()
        step = (width - 1) >> 1
        while step:
            found += (flat.take(found + step) <= slot) * step
            step >>= 1
        start = flat.take(found)
        x = (flat.take(found + 1) - start) * (x >> 16) + slot - start
        empty = (x < RANS_LOW).nonzero()[0]
        end = self.position + len(empty)
        if end > len(self.words):
            raise damaged_stream("range", "truncated")
        x[empty] = (x[empty] << 16) | self.words[self.position : end]
        self.position = end
        self.state[: len(rows)] = x
        return found - base

    def finish(self) -> bytes:
        """The seed, after a check that the stream ended where its encoder began."""
        if self.position != len(self.words) or not (self.state >> 24 == 1).all():
            raise damaged_stream("range", "its end differs")
        return little_endian(self.state, SEED_BYTES)
