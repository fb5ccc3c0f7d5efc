"""Context mixing for short Python programs: nine contexts predict each bit, two sets of weights mix what they say.

The model is that of the PAQ family (M. Mahoney, "Adaptive weighing of context models for lossless data compression",
2005): a context is the last one to six bytes, the word, the innermost open bracket of the line, and some of these
together; a slot per context and bits of the byte so far holds a probability and how sure it is; the logits are summed
with weights that learn online, chosen by the bits so far and by the last byte. A range coder writes the bits.
`predictions` and `decoded` are also the text of the decoder that a packed program carries (golf/submission/pack.py).
Invariant: floats are only added, multiplied and divided, tables are made by `decimal`, and nothing is summed by
`sum` (whose rounding depends on the version of Python), so that every machine computes the same.
"""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from typing import Any

END = 0  # the byte after the last one
PARTS = 4  # bytes of the coder's state


def predictions() -> Generator[int, int, None]:
    """The chance, in 65536ths, that the next bit is 1; the bit is sent back. A byte comes highest bit first."""
    stretch = [float((Decimal(2 * i + 1) / (8191 - 2 * i)).ln()) for i in range(4096)]
    squash = [int(65536 / (1 + Decimal(-i / 256).exp())) for i in range(-2816, 2816)]
    weights: dict[Any, Any] = {}
    slots: dict[Any, Any] = {}
    tail = word = brackets = b""
    while True:
        last = tail[-1:]
        contexts = last, tail[-2:], tail[-3:], tail[-4:], tail, word, brackets[:1], last + brackets[:1], tail[-3:-1]
        tables = [slots.setdefault(key, {}) for key in enumerate(contexts)]
        node = 1
        while node < 256:
            first, second = [weights.setdefault(key, [0.1] * 9) for key in (node, last)]
            found = [table.setdefault(node, [0.5, 1.1]) for table in tables]
            logits = [stretch[int(slot[0] * 4095)] for slot in found]
            total = 0.0
            for a, b, logit in zip(first, second, logits):
                total += (a + b) * logit
            chance = squash[max(0, min(5631, int(total * 256) + 2816))]
            bit = yield chance
            step = (bit - chance / 65536) * 0.002
            for i, logit in enumerate(logits):
                first[i] += step * logit
                second[i] += step * logit
            for slot in found:
                slot[0] += (bit - slot[0]) / slot[1]
                if slot[1] < 6:
                    slot[1] += 1
            node += node + bit
        last = bytes([node - 256])
        tail = (tail + last)[-6:]
        word = (word + last) * last.isalnum()
        if last in b"([{":
            brackets = last + brackets
        elif last in b")]}":
            brackets = brackets[1:]
        elif last == b"\n":
            brackets = b""


def decoded(code: bytes) -> bytes:
    """What was encoded; bytes behind it do not matter."""
    model = predictions()
    chance, value, span, position = next(model), int.from_bytes(code[:4], "big"), 4294967295, 4
    text, node = bytearray(), 1
    while node != 256:
        share = (span >> 16) * chance
        bit = value < share
        if bit:
            span = share
        else:
            value -= share
            span -= share
        while span < 16777216:
            value = value << 8 | code[position]
            span <<= 8
            position += 1
        chance = model.send(bit)
        node += node + bit
        if node > 256:
            text.append(node - 256)
            node = 1
    return bytes(text)


def encoded(text: bytes) -> bytes:
    """The shortest bytes from which `decoded` finds the text, whatever is behind them.

    Raises:
        ValueError: a byte of the text is 0.
    """
    if END in text:
        raise ValueError("a program has no bytes that are 0")
    model = predictions()
    chance, low, span, found = next(model), 0, (1 << 8 * PARTS) - 1, bytearray()
    for byte in [*text, END]:
        for shift in range(7, -1, -1):
            bit = byte >> shift & 1
            share = (span >> 16) * chance
            low, span = (low, share) if bit else (low + share, span - share)
            while span < 1 << 8 * (PARTS - 1):
                low, span = written(found, low), span << 8
            if byte != END or shift:
                chance = model.send(bit)
    for count in range(1, PARTS + 1):  # as few as leave no doubt
        unit = 1 << 8 * (PARTS - count)
        ended = -(-low // unit) * unit
        if ended + unit <= low + span or unit == 1:
            for _ in range(count):
                ended = written(found, ended)
            break
    return bytes(found)


def written(found: bytearray, low: int) -> int:
    """Write the highest byte of `low`, which may carry over into those before; returns what is left of it."""
    if low >> 8 * PARTS:
        position = len(found) - 1
        while found[position] == 255:
            found[position] = 0
            position -= 1
        found[position] += 1
    found.append(low >> 8 * (PARTS - 1) & 255)
    return low << 8 & ((1 << 8 * PARTS) - 1)
