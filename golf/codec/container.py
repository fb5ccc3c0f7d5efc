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

from torch import Tensor

from golf.codec.protocol import DECODE_LIMIT_BYTES, Codec
from golf.codec.sections import group_bytes
from golf.errors import UserError

CONTAINER_MAGIC = b"GOLF"
CONTAINER_VERSION = 2
HEADER_LIMIT_BYTES = 16 * 1024 * 1024
READ_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, struct.error)


def damaged_artifact(where: str, what: str) -> str:
    """The one line about a damaged artifact."""
    return f"{where}: damaged artifact ({what}): copy it again or pack it again with export.py run=<folder>"


def refuse_artifact(where: str, what: str) -> NoReturn:
    """Raise the one-line error for a damaged artifact."""
    raise UserError(damaged_artifact(where, what))


def write_container(
    codec: Codec, header: dict[str, Any], members: Sequence[Sequence[Tensor]]
) -> tuple[bytes, dict[str, Any]]:
    """Compress a header and the tensors of its sections into one file.

    Args:
        codec: compresses the header and every section.
        header: plain JSON data; "sections" and "layouts" (0 plain, 1 permuted: what is smaller) are filled in here.
        members: the tensors of each section, of one dtype.

    Returns:
        The file's bytes and the header as written.
    """
    sections, layouts, stored = [], [], []
    for tensors in members:
        tried = [codec.encode(group_bytes(tensors, permuted)) for permuted in (False, True)]
        packed = min(tried, key=len)  # plain where both are as long
        sections.append([len(packed), sum(tensor.nbytes for tensor in tensors), zlib.crc32(packed)])
        layouts.append(tried.index(packed))
        stored.append(packed)
    return container_bytes(codec, {**header, "sections": sections, "layouts": layouts}, stored, 1)


def container_bytes(
    codec: Codec, full: dict[str, Any], stored: Sequence[bytes], version: int
) -> tuple[bytes, dict[str, Any]]:
    """One file of a complete header and compressed sections, and that header."""
    if sum(entry[1] for entry in full["sections"]) > DECODE_LIMIT_BYTES:
        raise UserError(f"the weights are over {DECODE_LIMIT_BYTES:,} bytes before compression: use a smaller model")
    try:
        raw = json.dumps(full, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"the network's config must be plain data (str, number, bool, list, dict): {error}") from error
    header, name = codec.encode(raw), codec.name.encode()
    sizes = len(header), len(raw)
    start = struct.pack(f"<4sHB{len(name)}sII", CONTAINER_MAGIC, version, len(name), name, *sizes)
    checksum = struct.pack("<I", zlib.crc32(start + header))
    return b"".join([start, checksum, header, *stored]), full


def codec_name(blob: bytes, where: str) -> str:
    """The name of a file's codec, after checking its first bytes and its header's CRC."""
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
    return blob[7:start].decode("ascii", "replace")


def header_of(blob: bytes, codec: Codec, where: str) -> tuple[dict[str, Any], int]:
    """The header of a file whose first bytes were checked, and where the first section starts."""
    start = 19 + blob[6]
    stored, size = struct.unpack_from("<II", blob, start - 12)
    text = codec.decode(blob[start : start + stored], size)
    if len(text) != size:
        refuse_artifact(where, "the header's size differs")
    if constants_in(text):
        refuse_artifact(where, f"{constants_in(text)[0]} in its header")
    header = json.loads(text)
    if not isinstance(header, dict):
        refuse_artifact(where, "its header is not a table")
    return header, start + stored


def constants_in(text: bytes) -> list[str]:
    """Values that JSON does not have and Python reads: NaN, Infinity, -Infinity."""
    found: list[str] = []
    json.loads(text, parse_constant=found.append)
    return found


def read_header(blob: bytes, codec_of: Callable[[str], Codec], where: str) -> tuple[dict[str, Any], Codec, int]:
    """Check the first bytes and expand the header. Returns it, the codec, and where the first section starts."""
    codec = codec_of(codec_name(blob, where))
    header, start = header_of(blob, codec, where)
    return header, codec, start


def require_sections(blob: bytes, header: dict[str, Any], start: int, where: str) -> None:
    """Check the directory of sections (stored bytes, raw bytes, CRC-32) against the size of the file."""
    for entry in header["sections"]:
        if len(entry) != 3 or any(type(value) is not int or not 0 <= value < 2**32 for value in entry):
            refuse_artifact(where, "a section's directory entry")
    if sum(raw for _, raw, _ in header["sections"]) > DECODE_LIMIT_BYTES:
        refuse_artifact(where, f"it declares more than {DECODE_LIMIT_BYTES:,} bytes")
    available = len(blob) - start
    if sum(stored for stored, _, _ in header["sections"]) != available:
        refuse_artifact(where, f"its sections do not add up to the {available:,} bytes that follow its header")


def checksums_differ(blob: bytes, header: dict[str, Any], start: int) -> bool:
    """Whether a section is not what it was when it was written."""
    for stored, _, checksum in header["sections"]:
        if zlib.crc32(blob[start : start + stored]) != checksum:
            return True
        start += stored
    return False


def section_bytes(blob: bytes, header: dict[str, Any], start: int, where: str) -> list[tuple[bytes, int]]:
    """The stored bytes and raw size of every section, after checking all of them."""
    require_sections(blob, header, start, where)
    if checksums_differ(blob, header, start):
        refuse_artifact(where, "a section's CRC differs")
    found = []
    for stored, raw, _ in header["sections"]:
        found.append((blob[start : start + stored], raw))
        start += stored
    return found


def read_sections(blob: bytes, header: dict[str, Any], codec: Codec, start: int, where: str) -> list[bytes]:
    """Expand every section after all of them were checked."""
    require_sections(blob, header, start, where)
    if checksums_differ(blob, header, start):
        refuse_artifact(where, "a section's CRC differs")
    sections = []
    for stored, raw, _ in header["sections"]:
        section = codec.decode(blob[start : start + stored], raw)
        if len(section) != raw:
            refuse_artifact(where, "a section's size differs")
        sections.append(section)
        start += stored
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
    except (UserError, *READ_ERRORS) as error:
        raise UserError(named_error(where, error)) from error


def named_error(where: str, error: Exception) -> str:
    """What a reader says about a file that it could not read."""
    if isinstance(error, UserError):
        return str(error) if where in str(error) else f"{where}: {error}"
    return damaged_artifact(where, f"{type(error).__name__} in its header")
