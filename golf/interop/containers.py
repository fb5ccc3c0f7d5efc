"""What the public scripts wrap around a `torch.save` dictionary: a compressor, perhaps after a shuffle of its bytes.

    zlib (baseline), zstd (21 March), xz or .lzma (23 to 29 March), brotli of the dictionary or of
    "BSHF", stride (one byte; two in the script of 31 March), then the bytes 0, s, 2s …, then 1, s + 1 …, and so on;
    "PGRP": a stream for each kind of matrix (golf/interop/pergroup.py).

The first bytes say which; brotli has no mark and is what is left. Invariant: nothing is expanded past a bound.
"""

import lzma
from typing import Any

import numpy as np

from golf.codec.brotli_codec import BrotliCodec
from golf.codec.lzma_codec import LZMA_MEMORY_LIMIT_BYTES
from golf.codec.protocol import DECODE_LIMIT_BYTES, damaged_stream
from golf.codec.zlib_codec import ZlibCodec
from golf.codec.zstd_codec import ZstdCodec
from golf.errors import UserError
from golf.interop.pergroup import PERGROUP_MAGIC, open_pergroup
from golf.interop.plain_pickle import ZIP_MAGIC, load_plain_pickle, refused_ptz

SHUFFLE_MAGIC = b"BSHF"
LARGEST_STRIDE = 16
NOT_ARTIFACTS = (
    (b"GOLF", "it is a golf artifact: pass it as artifact=<file>"),
    (ZIP_MAGIC, "it is an uncompressed torch.save file or zip"),
)
# First bytes, codec, what the stream is called.
COMPRESSORS = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x78", "zlib"),
)


def open_container(blob: bytes, where: str) -> dict[str, Any]:
    """The dictionary that a `.ptz` holds: plain data only.

    Raises:
        UserError: damaged, of no known kind, or with more in it than data.
    """
    for magic, what in NOT_ARTIFACTS:
        if blob.startswith(magic):
            raise refused_ptz(where, what)
    if blob.startswith(PERGROUP_MAGIC):
        return open_pergroup(blob, where)
    raw = expand(blob, where)
    if raw.startswith(SHUFFLE_MAGIC):
        raw = unshuffle(raw, where)
    return load_plain_pickle(raw, where)


def expand(blob: bytes, where: str) -> bytes:
    """The bytes within the compressor that the first bytes name, else brotli."""
    kind = next((name for magic, name in COMPRESSORS if blob.startswith(magic)), "brotli")
    try:
        if kind in ("xz", "lzma"):
            return expand_lzma(blob, lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE)
        return {"zstd": ZstdCodec, "zlib": ZlibCodec, "brotli": BrotliCodec}[kind]().decode(blob)
    except UserError as error:
        if "pip install" in str(error):
            raise UserError(f"{where} is compressed with {kind}: {error}") from error
        unmarked = "is damaged, incomplete or another compressor's (brotli has no mark)"
        what = unmarked if kind == "brotli" else f"({kind}) is damaged or incomplete"
        raise refused_ptz(where, f"its stream {what}") from error


def expand_lzma(blob: bytes, kind: int) -> bytes:
    """An .xz or .lzma stream with any filters."""
    stream = lzma.LZMADecompressor(format=kind, memlimit=LZMA_MEMORY_LIMIT_BYTES)
    try:
        out = stream.decompress(blob, DECODE_LIMIT_BYTES + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise damaged_stream("lzma", str(error)) from error
    if len(out) > DECODE_LIMIT_BYTES or not stream.eof or stream.unused_data:
        raise damaged_stream("lzma", "truncated, too long, or with bytes after its end")
    return out


def unshuffle(raw: bytes, where: str) -> bytes:
    """Bytes in their order again. The stride has one byte or two: the one after which a zip opens is taken."""
    for head in (1, 2):
        start = len(SHUFFLE_MAGIC) + head
        stride = int.from_bytes(raw[len(SHUFFLE_MAGIC) : start], "little")
        if 1 <= stride <= LARGEST_STRIDE and len(raw) > start:
            plain = join_lanes(np.frombuffer(raw, dtype=np.uint8, offset=start), stride)
            if plain.startswith(ZIP_MAGIC):
                return plain
    raise refused_ptz(where, "its shuffled bytes do not hold a torch.save file")


def join_lanes(shuffled: np.ndarray, stride: int) -> bytes:
    """The inverse of writing every `stride`-th byte from 0 on, then from 1 on, and so on."""
    plain = np.empty_like(shuffled)
    start = 0
    for lane in range(stride):
        size = len(range(lane, len(shuffled), stride))
        plain[lane::stride] = shuffled[start : start + size]
        start += size
    return plain.tobytes()
