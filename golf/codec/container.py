"""The file format of artifacts, at the level of bytes: container versions 1 and 2.

    "GOLF" · version u16 · length u8 and name of the codec · stored u32, raw u32, CRC-32 u32 of the header ·
    header (JSON, sorted keys, compressed) · sections (compressed), as header["sections"] = [[stored, raw, CRC], …]

Version 2 differs in what a section is: not compressed bytes, but what a parts codec (golf/codec/parts.py) made of its
tensors; header["layouts"] is then "parts", and "raw" the bytes of the tensors.

No pickle, nothing executable, no time stamps: the same input gives the same bytes. Integers are little-endian; a CRC
covers the stored bytes (the header's also everything before it), so that damage is seen before anything is expanded.
Invariant: the declared sizes add up exactly to the file, no decoder may exceed its declared size, and reading either
returns everything or raises one UserError.
"""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from golf.codec.protocol import DECODE_LIMIT_BYTES, Codec
from golf.errors import UserError

CONTAINER_MAGIC = b"GOLF"
CONTAINER_VERSION = 2
HEADER_LIMIT_BYTES = 16 * 1024 * 1024
READ_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, struct.error)


def refuse_artifact(where: str, what: str) -> NoReturn:
    """Raise the one-line error for a damaged artifact."""
    raise UserError(f"{where}: damaged artifact ({what}): copy it again or pack it again with export.py run=<folder>")


def write_container(
    codec: Codec, header: dict[str, Any], candidates: Sequence[Sequence[bytes]]
) -> tuple[bytes, dict[str, Any]]:
    """Compress a header and sections into one file.

    Args:
        codec: compresses the header and every section.
        header: plain JSON data; "sections" and "layouts" (which candidate was kept) are filled in here.
        candidates: for each section, equivalent byte orders; the smallest after compression is kept.

    Returns:
        The file's bytes and the header as written.
    """
    kept, directory, stored = [], [], []
    for orders in candidates:
        packed = [codec.encode(raw) for raw in orders]
        best = min(range(len(packed)), key=lambda index: len(packed[index]))
        kept.append(best)
        stored.append(packed[best])
        directory.append([len(packed[best]), len(orders[best]), zlib.crc32(packed[best])])
    return container_bytes(codec, {**header, "sections": directory, "layouts": kept}, stored, 1)


def container_bytes(
    codec: Codec, full: dict[str, Any], stored: Sequence[bytes], version: int
) -> tuple[bytes, dict[str, Any]]:
    """One file of a complete header and compressed sections, and that header."""
    directory = full["sections"]
    if sum(entry[1] for entry in directory) > DECODE_LIMIT_BYTES:
        raise UserError(f"the weights are over {DECODE_LIMIT_BYTES:,} bytes before compression: use a smaller model")
    try:
        text = json.dumps(full, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the network's config must be plain data (str, number, bool, list, dict): {error}") from error
    raw_header = text.encode()
    packed_header = codec.encode(raw_header)
    name = codec.name.encode("ascii")
    prefix = CONTAINER_MAGIC + struct.pack("<HB", version, len(name)) + name
    prefix += struct.pack("<II", len(packed_header), len(raw_header))
    checksum = struct.pack("<I", zlib.crc32(packed_header, zlib.crc32(prefix)))
    return b"".join([prefix, checksum, packed_header, *stored]), full


def read_header(blob: bytes, codec_of: Callable[[str], Codec], where: str) -> tuple[dict[str, Any], Codec, int]:
    """Check the first bytes and expand the header. Returns it, the codec, and where the first section starts."""
    if blob[:4] != CONTAINER_MAGIC:
        raise UserError(f"{where} is not a golf artifact (no 'GOLF' at its start): pass a file packed by export.py")
    if len(blob) < 7:
        refuse_artifact(where, "truncated")
    version, name_length = struct.unpack_from("<HB", blob, 4)
    if version > CONTAINER_VERSION:
        raise UserError(
            f"{where} was written by a newer golf (container {version}, this one reads {CONTAINER_VERSION}): "
            "upgrade with git pull && make install"
        )
    start = 7 + name_length
    if version < 1 or len(blob) < start + 12:
        refuse_artifact(where, "truncated" if version else "container 0")
    stored, raw, checksum = struct.unpack_from("<III", blob, start)
    end = start + 12 + stored
    if end > len(blob) or raw > HEADER_LIMIT_BYTES:
        refuse_artifact(where, "its header's declared size is not in the file")
    if zlib.crc32(blob[start + 12 : end], zlib.crc32(blob[: start + 8])) != checksum:
        refuse_artifact(where, "the header's CRC differs")
    codec = codec_of(blob[7:start].decode("ascii", "replace"))
    text = codec.decode(blob[start + 12 : end], raw)
    if len(text) != raw:
        refuse_artifact(where, "the header's size differs")
    header = json.loads(text, parse_constant=lambda name: refuse_artifact(where, f"{name} in its header"))
    if not isinstance(header, dict):
        refuse_artifact(where, "its header is not a table")
    return header, codec, end


def section_entries(header: dict[str, Any], available: int, where: str) -> list[tuple[int, int, int]]:
    """The directory of sections (stored bytes, raw bytes, CRC-32), checked against the bytes in the file."""
    entries = []
    for entry in header["sections"]:
        if len(entry) != 3 or any(type(value) is not int or not 0 <= value < 2**32 for value in entry):
            refuse_artifact(where, "a section's directory entry")
        entries.append((entry[0], entry[1], entry[2]))
    if sum(raw for _, raw, _ in entries) > DECODE_LIMIT_BYTES:
        refuse_artifact(where, f"it declares more than {DECODE_LIMIT_BYTES:,} bytes")
    if sum(stored for stored, _, _ in entries) != available:
        refuse_artifact(where, f"its sections do not add up to the {available:,} bytes that follow its header")
    return entries


def section_bytes(blob: bytes, header: dict[str, Any], start: int, where: str) -> list[tuple[bytes, int]]:
    """The stored bytes and raw size of every section, after checking the sizes against the file and each CRC."""
    found = []
    for stored, raw, checksum in section_entries(header, len(blob) - start, where):
        piece = blob[start : start + stored]
        if zlib.crc32(piece) != checksum:
            refuse_artifact(where, "a section's CRC differs")
        found.append((piece, raw))
        start += stored
    return found


def read_sections(blob: bytes, header: dict[str, Any], codec: Codec, start: int, where: str) -> list[bytes]:
    """Expand every section after all of them were checked."""
    sections = []
    for piece, raw in section_bytes(blob, header, start, where):
        section = codec.decode(piece, raw)
        if len(section) != raw:
            refuse_artifact(where, "a section's size differs")
        sections.append(section)
    return sections


def only_codec(codec: Codec) -> Callable[[str], Codec]:
    """A chooser for `read_header` that knows one codec."""

    def choose(name: str) -> Codec:
        if name != codec.name:
            raise UserError(f"it was packed with codec '{name}', not '{codec.name}': read it with codec={name}")
        return codec

    return choose


def read_guarded(where: str, read: Callable[[], Any]) -> Any:
    """Run a reader so that whatever a damaged file provokes becomes one UserError that names the file."""
    try:
        return read()
    except UserError as error:
        if where in str(error):
            raise
        raise UserError(f"{where}: {error}") from error
    except READ_ERRORS as error:
        refuse_artifact(where, f"{type(error).__name__} in its header")
