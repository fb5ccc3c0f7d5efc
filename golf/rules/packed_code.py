"""What is inside of scripts that unpack themselves, read without running them.

A script of the kind `exec(decompress(b85decode("…")))` holds its source as one long literal. Literals are decoded by
the usual alphabets and expanded by the usual compressors, golf's own packed form by golf's decoder; what comes out is
source if it parses as Python and is no literal alone. Nothing of the script is executed.
"""

from __future__ import annotations

import ast
import base64
import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

from golf.submission.pack import unpacked

SHORTEST_LITERAL = 80  # characters
LONGEST_SOURCE = 20_000_000
UNPACKERS = ("lzma", "zlib", "base64", "brotli", "bz2", "gzip")


@lru_cache(maxsize=4)  # several rules ask about one script
def unpacked_source(text: str | bytes) -> str | None:
    """The Python source that a script carries in a packed literal; None where there is none that can be read."""
    try:
        tree = ast.parse(text)
        own = unpacked(text) if isinstance(text, bytes) else None
    except (SyntaxError, ValueError):
        return None
    if own is not None:
        return own
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    long = [value for value in literals if isinstance(value, str | bytes) and len(value) >= SHORTEST_LITERAL]
    for literal in sorted(long, key=len, reverse=True):
        for blob in decoded(literal):
            source = expanded_source(blob)
            if source is not None:
                return source
    return None


def decoded(literal: str | bytes) -> Iterator[bytes]:
    """A literal as bytes, as it is and through base 85, 64 and ASCII 85."""
    try:
        raw = literal if isinstance(literal, bytes) else literal.encode("ascii")
    except UnicodeEncodeError:
        raw = literal.encode("latin-1", "ignore") if isinstance(literal, str) else b""
    yield raw
    for decode in (base64.b85decode, base64.b64decode, base64.a85decode):
        try:
            yield decode(raw)
        except ValueError:  # another alphabet
            continue


def expanded_source(blob: bytes) -> str | None:
    for expand in expanders():
        try:
            text = expand(blob).decode("utf-8")
            if len(text) <= LONGEST_SOURCE and len(ast.parse(text).body) > 1:
                return text
        except Exception:  # not of that format, or no Python
            continue
    return None


def expanders() -> list[Callable[[bytes], bytes]]:
    raw_lzma = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    found: list[Callable[[bytes], bytes]] = [
        lzma.decompress,
        lambda blob: lzma.decompress(blob, format=lzma.FORMAT_RAW, filters=raw_lzma),
        zlib.decompress,
        lambda blob: zlib.decompress(blob, -15),
        lambda blob: zlib.decompress(blob, 31),
        bz2.decompress,
    ]
    try:
        import brotli

        found.append(brotli.decompress)
    except ImportError:  # an extra
        pass
    return found
