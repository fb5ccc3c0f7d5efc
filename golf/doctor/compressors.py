"""Does every compressor work? Each codec packs and unpacks; the one this run uses is a failure if it does not.

Published runs have ended, trained and paid for, at the import of brotli, or silently fell back to zlib.
"""

from __future__ import annotations

from typing import Any

from golf.doctor.finding import Line, Subject, split_error
from golf.errors import UserError

SAMPLE = bytes(range(256)) * 8 + b"golf" * 512


def compressors(subject: Subject) -> list[Line]:
    """A round trip through every codec, then through the run's own with its settings."""
    from golf.codec.catalogue import CODECS
    from golf.config.build import build

    lines = [round_trip(f"codec {codec.name}", codec, "") for codec in CODECS]
    node = (subject.config or {}).get("codec")
    if node and "_target_" in node:
        lines.append(round_trip("codec of this run", lambda: build(node), "packing would end a run that is paid for"))
    return lines


def round_trip(what: str, make: Any, needed: str) -> Line:
    """`needed`: why a codec that does not work is a failure; "" for one that nobody asked for."""
    status, why = ("fail", needed) if needed else ("warn", "only runs that choose it need it")
    try:
        codec = make()
        packed = codec.encode(SAMPLE)
        intact = codec.decode(packed) == SAMPLE
    except UserError as error:
        reason, todo = split_error(error)
        return Line(status, what, reason, todo or "type codec=lzma", why)  # pyright: ignore[reportArgumentType]
    if intact:
        return Line("ok", what, f"{codec.name}: {len(SAMPLE):,} bytes in {len(packed):,} and back")
    return Line("fail", what, f"{codec.name} does not give back what it was given", "type codec=lzma", needed or LOST)


LOST = "an artifact packed by it would be another network"
