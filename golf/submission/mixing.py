"""Context mixing for short Python programs: eleven contexts predict each bit, two sets of weights mix what they say.

The model is that of the PAQ family (M. Mahoney, "Adaptive weighing of context models for lossless data compression",
2005): a context is the last one to six bytes, the word, the innermost open bracket of the line, the shape of the text
(a letter for every word) and some of these together; a slot per context and bits of the byte so far holds a probability
and how sure it is; the logits are summed with weights that learn online, chosen by the bits so far and the last byte.
A range coder writes the bits in base 253, whose digits are the bytes that a string literal of Python can hold as they
are. `predictions` and `decoded` are also the text of the decoder that a packed program carries
(golf/submission/pack.py); that text, which both sides have, is what the model learns from first.
Invariant: floats are only added, multiplied and divided, tables are made by `decimal`, and nothing is summed by
`sum` (whose rounding depends on the version of Python), so that every machine computes the same.
"""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from typing import Any

END = 0  # the byte after the last one
BASE = 253
LEAST_SPAN = BASE**3  # of the coder's interval
DIGITS = bytes(byte for byte in range(256) if byte not in b"\0\r\\")


def predictions() -> Generator[int, int, None]:
    """The chance, in 65536ths, that the next bit is 1; the bit is sent back. A byte comes highest bit first."""
    stretch = [float((Decimal(2 * i + 1) / (8191 - 2 * i)).ln()) for i in range(4096)]
    squash = [int(65536 / (1 + Decimal(-i / 256).exp())) for i in range(-2816, 2816)]
    weights: dict[Any, Any] = {}
    slots: dict[Any, Any] = {}
    tail = word = brackets = shape = b""
    while True:
        last, inner = tail[-1:], brackets[:1]
        contexts = last, tail[-2:], tail[-3:], tail[-4:], tail, word, inner, last + inner, tail[-3:-1]
        tables = [slots.setdefault(key, {}) for key in enumerate((*contexts, shape, inner + shape[-4:]))]
        node = 1
        while node < 256:
            first, second = [weights.setdefault(key, [0.06] * 11) for key in ((node, word > b""), last)]
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
        if last.isalnum():
            word += last
            shape = (shape.rstrip(b"a") + b"a")[-7:]
        else:
            word = b""
            shape = (shape + last)[-7:]
        if last in b"([{":
            brackets = last + brackets
        elif last in b")]}":
            brackets = brackets[1:]
        elif last == b"\n":
            brackets = b""


def decoded(code: bytes, known: bytes) -> bytes:
    """What was encoded; bytes behind it do not matter, if the first of them is no 0."""
    model = predictions()
    chance = next(model)
    for byte in known:
        for shift in range(8):
            chance = model.send(byte >> 7 - shift & 1)
    value, span, position, text, node = 0, 1, 0, bytearray(), 1
    while node != 256:
        while span < 16194277:
            byte = code[position]
            value = value * 253 + byte - 1 - (byte > 13) - (byte > 92)
            span *= 253
            position += 1
        share = (span >> 16) * chance
        bit = value < share
        if bit:
            span = share
        else:
            value -= share
            span -= share
        chance = model.send(bit)
        node += node + bit
        if node > 256:
            text.append(node - 256)
            node = 1
    return bytes(text)


def encoded(text: bytes, known: bytes) -> bytes:
    """The shortest bytes from which `decoded` finds the text, which comes after a text that is `known`.

    Raises:
        ValueError: a byte of the text is 0.
    """
    if END in text:
        raise ValueError("a program has no bytes that are 0")
    model = predictions()
    chance, low, span, count = next(model), 0, 1, 0
    bits = [byte >> shift & 1 for byte in [*known, *text, END] for shift in range(7, -1, -1)]
    for position, bit in enumerate(bits):
        if position >= 8 * len(known):
            while span < LEAST_SPAN:
                low, span, count = low * BASE, span * BASE, count + 1
            share = (span >> 16) * chance
            low, span = (low, share) if bit else (low + share, span - share)
        if position + 1 < len(bits):
            chance = model.send(bit)
    unit = BASE**3
    while unit > 1 and -(-low // unit) * unit + unit > low + span:  # as few digits as leave no doubt
        unit //= BASE
    while unit > 1:
        low, unit, count = -(-low // BASE), unit // BASE, count - 1
    found = bytearray()
    for _ in range(count):
        low, digit = divmod(low, BASE)
        found.append(DIGITS[digit])
    return bytes(found[::-1])
