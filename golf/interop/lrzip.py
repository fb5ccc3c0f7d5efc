"""Files of `lrzip -z` (format 0.6): ZPAQ over the two streams of rzip, as the record of 2026-04-27 packs its matrices.

    "LRZI", version 0 6, size uint64, …, flag of MD5, …, then one chunk: width w, last (1), size of w bytes, and two
    chains of blocks (method, stored size, size, distance to the next block: 1 + 3 w bytes), counted from there.
    Stream 0 is a list of commands: 0 n = n bytes of stream 1, 1 n d = n bytes from d bytes before, 0 0 = end.

Invariant: what is returned has the MD5 that the file states; nothing larger than announced is ever made.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from golf.codec.protocol import damaged_stream
from golf.interop.zpaq_child import expand_zpaq

LRZIP_HEAD_BYTES = 24
METHOD_STORED, METHOD_ZPAQ = 3, 8
MOST_BLOCKS = 4096
# sha256 of the model that opens every ZPAQ stream of `lrzip -z -L 9` (libzpaq's built-in model "max").
KNOWN_MODELS = ("1f48f0ed195d3fd7dfbeb786d8ee1462bca54e3ed2801ca979e5933991bbf599",)


class LrzipBlock(NamedTuple):
    """One compressed piece of a stream."""

    method: int
    data: bytes
    size: int


class LrzipFile(NamedTuple):
    """A file taken apart. width: bytes of a distance."""

    size: int
    md5: bytes
    width: int
    commands: list[LrzipBlock]
    literals: list[LrzipBlock]


def expand_lrzip(files: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
    """Expand several files of known sizes, their ZPAQ blocks in one go.

    Raises:
        UserError: a file is damaged, not of `lrzip -z -L 9`, or of another size than announced.
    """
    opened = [open_lrzip(data) for data in files]
    for file, size in zip(opened, sizes):
        if file.size != size:
            raise damaged_stream("lrzip", f"{file.size:,} bytes where the matrices have {size:,}")
    blocks = [block for file in opened for block in [*file.commands, *file.literals] if block.method == METHOD_ZPAQ]
    expanded = iter(expand_zpaq([(block.data, block.size) for block in blocks]))
    found = []
    for file in opened:
        commands, literals = (
            b"".join(next(expanded) if block.method == METHOD_ZPAQ else block.data for block in chain)
            for chain in (file.commands, file.literals)
        )
        whole = follow_commands(commands, literals, file)
        if hashlib.md5(whole, usedforsecurity=False).digest() != file.md5:
            raise damaged_stream("lrzip", "its MD5 differs")
        found.append(whole)
    return found


def open_lrzip(data: bytes) -> LrzipFile:
    """Take a file apart, checking every length.

    Raises:
        UserError: what is wrong.
    """
    if len(data) < LRZIP_HEAD_BYTES + 2 + 16 or data[:4] != b"LRZI":
        raise damaged_stream("lrzip", "no LRZI at its start, or truncated")
    if data[4:6] != b"\x00\x06" or data[21:23] != b"\x01\x00":
        raise damaged_stream("lrzip", "not format 0.6 with an MD5 and without encryption")
    size = int.from_bytes(data[6:14], "little")
    width, last = data[LRZIP_HEAD_BYTES], data[LRZIP_HEAD_BYTES + 1]
    start = LRZIP_HEAD_BYTES + 2 + width
    if not 1 <= width <= 8 or last != 1 or int.from_bytes(data[start - width : start], "little") != size:
        raise damaged_stream("lrzip", "more than one chunk, or sizes that differ")
    body = data[start:-16]
    chains = [chain_of_blocks(body, stream * (1 + 3 * width), width) for stream in (0, 1)]
    if sum(block.size for block in chains[1]) > size or sum(block.size for block in chains[0]) > size + 65536:
        raise damaged_stream("lrzip", "blocks larger than the file")
    return LrzipFile(size, data[-16:], width, *chains)


def chain_of_blocks(body: bytes, first: int, width: int) -> list[LrzipBlock]:
    """The blocks of one stream; `first` is where its empty first header lies."""
    found: list[LrzipBlock] = []
    at, following = first, 1
    while following:
        head = at + 1 + 3 * width
        if at < 0 or head > len(body) or len(found) > MOST_BLOCKS:
            raise damaged_stream("lrzip", "truncated")
        numbers = [int.from_bytes(body[at + 1 + i * width : at + 1 + (i + 1) * width], "little") for i in range(3)]
        stored, size, following = numbers
        if (following and following <= at) or head + stored > len(body):
            raise damaged_stream("lrzip", "a block outside of the file")
        if stored or size:
            found.append(checked_block(body[at], body[head : head + stored], size))
        at = following
    return found


def checked_block(method: int, data: bytes, size: int) -> LrzipBlock:
    """A block that may be expanded: stored, or ZPAQ with a known model."""
    if method == METHOD_ZPAQ:
        model = data[: 7 + int.from_bytes(data[5:7], "little")]
        if hashlib.sha256(model).hexdigest() not in KNOWN_MODELS:
            raise damaged_stream("lrzip", "its model is not the one of lrzip -z -L 9 (not run)")
    elif method != METHOD_STORED or len(data) != size:
        raise damaged_stream("lrzip", "compressed by another method than lrzip -z")
    return LrzipBlock(method, data, size)


def follow_commands(commands: bytes, literals: bytes, file: LrzipFile) -> bytes:
    """The file that rzip's commands describe."""
    out = bytearray()
    at = used = 0
    while True:
        if at + 3 > len(commands):
            raise damaged_stream("lrzip", "its commands end early")
        kind, length = struct.unpack_from("<BH", commands, at)
        at += 3
        if kind == 0 and length == 0:
            break
        if len(out) + length > file.size:
            raise damaged_stream("lrzip", "longer than it says")
        if kind == 0:
            out += literals[used : used + length]
            used += length
            continue
        distance = int.from_bytes(commands[at : at + file.width], "little")
        at += file.width
        if kind != 1 or not 0 < distance <= len(out):
            raise damaged_stream("lrzip", "an impossible command")
        while length:  # a copy may overlap what it writes
            piece = out[len(out) - distance :][:length]
            out += piece
            length -= len(piece)
    if len(out) != file.size or used != len(literals):
        raise damaged_stream("lrzip", "shorter than it says")
    return bytes(out)
