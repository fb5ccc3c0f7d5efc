"""Range coding of many symbols at once: interleaved rANS, whose lanes advance together in numpy (arXiv 1402.3392).

Every lane has a state x in [2^24, 2^40). Coding a symbol with frequency f of 2^20 that starts at c:

    encode: while x >= f·2^20: emit 16 bits of x;    x <- (x div f)·2^20 + (x mod f) + c
    decode: s with c <= x mod 2^20 < c + f;    x <- f·(x div 2^20) + (x mod 2^20) - c;    while x < 2^24: read 16 bits

The encoder runs backwards over what the decoder reads forwards, so one stream of 16-bit words serves all lanes. All
arithmetic is on integers: a file decodes to the same symbols on every machine. Frequencies of 2^16 would be 0.002 bit
a symbol worse: the least of them, 1, is what each of a hundred symbols that never occur takes.
A lane that begins at 2^24 takes three bytes that say nothing. So the stream's last symbols are coded first, by four
lanes, and what that wrote is the lower three bytes of the states that all lanes begin with. Where lanes end is written
as the number of their bits, which takes four, and the bits below the highest. A lane costs half a byte.
Invariant: a decoder never reads past the words it was given, and every lane ends where its encoder began.
"""

from collections.abc import Sequence

import numpy as np

from golf.codec.protocol import damaged_stream

PROBABILITY_BITS = 20
PROBABILITY_ONE = 1 << PROBABILITY_BITS
RANS_LOW_BITS = 24
RANS_LOW = 1 << RANS_LOW_BITS
STATE_BYTES = 6  # at most, with the number of bits
START_BYTES = 3
LAST_LANES = 4
MOST_LAST = 16  # symbols among the last for each lane: they are decoded four at a time


class RansRecorder:
    """Takes the encoder's steps and keeps what `rans_encode` needs: starts and frequencies."""

    def __init__(self) -> None:
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def code(self, cumulative: np.ndarray, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        start = cumulative[rows, symbols]
        self.steps.append((start.astype(np.uint32), (cumulative[rows, symbols + 1] - start).astype(np.uint32)))
        return symbols


def push_symbols(state: np.ndarray, start: np.ndarray, frequency: np.ndarray, words: list[np.ndarray]) -> None:
    """Code a symbol in each of the first states; the words they emit come in reverse order."""
    x = state[: len(start)]
    f = frequency.astype(np.int64)
    for shift in 36, 20:  # a lane that emits two words emits the one that is read last first
        full = x >= f << shift
        words.append(x[full].astype("<u2"))
        x = np.where(full, x >> 16, x)
    state[: len(start)] = x + (x // f) * (PROBABILITY_ONE - f) + start


def start_bytes(state: np.ndarray) -> bytes:
    """The lowest three bytes of each state."""
    return (state[:, None] >> np.array([0, 8, 16])).astype(np.uint8).tobytes()


def stream_bytes(coded: int, state: np.ndarray, words: Sequence[np.ndarray], size: int = 0) -> bytes:
    """Number of symbols u32, the 16-bit words in the decoder's order, zeros up to a size, then the final states."""
    ends = count = 0
    for x in map(int, state[::-1]):
        bits = x.bit_length() - 1
        ends, count = (ends << bits | x - (1 << bits)) << 4 | bits - RANS_LOW_BITS, count + bits + 4
    tail = ends.to_bytes((count + 7) // 8, "big")
    head = coded.to_bytes(4, "little") + b"".join(piece.tobytes() for piece in reversed(words))
    return head.ljust(size - len(tail), b"\0") + tail


def rans_encode(steps: Sequence[tuple[np.ndarray, np.ndarray]], lanes: int) -> bytes:
    """Encode steps, in the order in which they will be decoded.

    Args:
        steps: for each, the starts (0 … 2^20 - 1) and frequencies (1 … 2^20) of the symbols of its first lanes.
        lanes: number of states.

    Returns:
        What `stream_bytes` writes; first come the symbols that are not among the last.
    """
    due, state, words = list(steps), np.full(LAST_LANES, RANS_LOW), []
    last, room = 0, START_BYTES * lanes - 4 - (STATE_BYTES + 4) * LAST_LANES
    while due and room >= 0 and last < MOST_LAST * lanes:
        start, frequency = due.pop()
        cut = (len(start) - 1) // LAST_LANES * LAST_LANES
        push_symbols(state, start[cut:], frequency[cut:], words)
        last += len(start) - cut
        room -= 2 * sum(map(len, words[-2:]))
        due += [(start[:cut], frequency[:cut])] if cut else []
    first = stream_bytes(last, state, words, START_BYTES * lanes) if last else bytes(START_BYTES * lanes)
    state, words = RANS_LOW + np.frombuffer(first, np.uint8).reshape(-1, START_BYTES) @ [1, 256, 65536], []
    for start, frequency in reversed(due):
        push_symbols(state, start, frequency, words)
    return stream_bytes(sum(len(start) for start, _ in due), state, words)


class RansDecoder:
    """Decodes what `rans_encode` wrote, one step at a time."""

    def __init__(self, data: bytes, lanes: int) -> None:
        self.left = int.from_bytes(data[:4], "little")
        ends, count, states = int.from_bytes(data[4:][-STATE_BYTES * lanes :], "big"), 0, []
        for _ in range(lanes):
            bits = RANS_LOW_BITS + (ends & 15)
            states.append(1 << bits | ends >> 4 & (1 << bits) - 1)
            ends, count = ends >> bits + 4, count + bits + 4
        self.state = np.array(states)
        end = len(data) - (count + 7) // 8
        self.words = np.frombuffer(data[4 : end - end % 2], dtype="<u2").astype(np.int64)
        self.position = 0
        self.last: RansDecoder | None = None

    def code(self, cumulative: np.ndarray, rows: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """The symbols of one step.

        Args:
            cumulative: [tables, 2^k + 1], each row rising from 0 to 2^20 and then constant.
            rows: the table of each of the first lanes.
            symbols: anything (the recorder's side of this call has them).
        """
        rest, rows = rows[self.left :], rows[: self.left]
        self.left -= len(rows)
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
        found -= base
        if len(rest):
            if not self.last:
                self.last = RansDecoder(start_bytes(self.state), LAST_LANES)
                if self.last.left > (MOST_LAST + LAST_LANES) * len(self.state):
                    raise damaged_stream("range", "its end differs")
                self.state &= -RANS_LOW
            for piece in np.split(rest, range(LAST_LANES, len(rest), LAST_LANES)):
                found = np.append(found, self.last.code(cumulative, piece, piece))
        return found

    def finish(self) -> None:
        """Check that the stream ended where its encoder began."""
        if self.left or self.words[self.position :].any() or (self.state != RANS_LOW).any():
            raise damaged_stream("range", "its end differs")
        if self.last:
            self.last.finish()
