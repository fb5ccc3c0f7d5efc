"""Range coding of many symbols at once: interleaved rANS, whose lanes advance together in numpy (arXiv 1402.3392).

Every lane has a state x in [2^24, 2^40). Coding a symbol with frequency f of 2^20 that starts at c:

    encode: while x >= f·2^20: emit 16 bits of x;    x <- (x div f)·2^20 + (x mod f) + c
    decode: s with c <= x mod 2^20 < c + f;    x <- f·(x div 2^20) + (x mod 2^20) - c;    while x < 2^24: read 16 bits

The encoder runs backwards over what the decoder reads forwards, so one stream of 16-bit words serves all lanes. All
arithmetic is on integers: a file decodes to the same symbols on every machine. Frequencies of 2^16 would be 0.002 bit
a symbol worse: the least of them, 1, is what each of a hundred symbols that never occur takes.
Invariant: a decoder never reads past the words it was given, and ends with every state at 2^24.
"""

from collections.abc import Sequence

import numpy as np

from golf.codec.protocol import damaged_stream

PROBABILITY_BITS = 20
PROBABILITY_ONE = 1 << PROBABILITY_BITS
RANS_LOW = 1 << 24
STATE_BYTES = 5


class RansRecorder:
    """Takes the encoder's steps and keeps what `rans_encode` needs: starts and frequencies."""

    def __init__(self) -> None:
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def code(self, cumulative: np.ndarray, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        start = cumulative[rows, symbols]
        self.steps.append((start.astype(np.uint32), (cumulative[rows, symbols + 1] - start).astype(np.uint32)))
        return symbols


def rans_encode(steps: Sequence[tuple[np.ndarray, np.ndarray]], lanes: int) -> bytes:
    """Encode steps, in the order in which they will be decoded.

    Args:
        steps: for each, the starts (0 … 2^20 - 1) and frequencies (1 … 2^20) of the symbols of its first lanes.
        lanes: number of states.

    Returns:
        The final states (5 bytes each), then the 16-bit words in the decoder's order.
    """
    state = np.full(lanes, RANS_LOW)
    words = []
    for start, frequency in reversed(steps):
        x = state[: len(start)]
        f = frequency.astype(np.int64)
        for shift in 36, 20:  # a lane that emits two words emits the one that is read last first
            full = x >= f << shift
            words.append(x[full].astype("<u2"))
            x = np.where(full, x >> 16, x)
        state[: len(start)] = x + (x // f) * (PROBABILITY_ONE - f) + start
    head = state.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :STATE_BYTES]
    return head.tobytes() + b"".join(piece.tobytes() for piece in reversed(words))


class RansDecoder:
    """Decodes what `rans_encode` wrote, one step at a time."""

    def __init__(self, data: bytes, lanes: int) -> None:
        head = STATE_BYTES * lanes
        wide = np.zeros((lanes, 8), dtype=np.uint8)
        wide[:, :STATE_BYTES] = np.frombuffer(data[:head], dtype=np.uint8).reshape(lanes, STATE_BYTES)
        self.state = wide.view("<i8")[:, 0].astype(np.int64)
        self.words = np.frombuffer(data[head:], dtype="<u2").astype(np.int64)
        self.position = 0

    def code(self, cumulative: np.ndarray, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """The symbols of one step.

        Args:
            cumulative: [tables, 2^k + 1], each row rising from 0 to 2^20 and then constant.
            rows: the table of each of the first lanes.
            symbols: anything (the recorder's side of this call has them).
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
        x = (flat.take(found + 1) - start) * (x >> PROBABILITY_BITS) + slot - start
        empty = (x < RANS_LOW).nonzero()[0]
        while len(empty):
            end = self.position + len(empty)
            if end > len(self.words):
                raise damaged_stream("range", "truncated")
            x[empty] = (x[empty] << 16) | self.words[self.position : end]
            self.position = end
            empty = empty[x[empty] < RANS_LOW]
        self.state[: len(rows)] = x
        return found - base

    def finish(self) -> None:
        """Check that the stream ended where its encoder began."""
        if self.position != len(self.words) or (self.state != RANS_LOW).any():
            raise damaged_stream("range", "its end differs")
