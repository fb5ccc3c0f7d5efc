"""Will the shards fit on the disk? Asked while they are written, hours before the disk would be full.

What is left is projected from what was read and written so far; compressed files and Parquet do not say how much text
they hold, so for them only a disk that is nearly full is noticed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from golf.data_commands.sources import COMPRESSED, DocumentFiles, Position, kind_of
from golf.errors import UserError

SPARE_BYTES = 64 << 20
MIN_FRACTION = 0.002  # of the text read before a projection means something


def fraction_read(files: DocumentFiles, position: Position) -> float | None:
    """How much of the documents lies before a position; None where that is not known."""
    if any(kind_of(path) == "parquet" or path.suffix in COMPRESSED for path in files.paths):
        return None
    sizes = [path.stat().st_size for path in files.paths]
    total = sum(sizes)
    return (sum(sizes[: position.file]) + position.offset) / total if total else None


def require_space(folder: Path, files: DocumentFiles, position: Position, written: int, room: int | None) -> None:
    """UserError if the rest of the shards will not fit.

    written: tokens of the documents before the position. room: most tokens that will still be written, if known.
    """
    free, needed = shutil.disk_usage(folder).free, SPARE_BYTES
    fraction = fraction_read(files, position)
    if fraction is not None and fraction >= MIN_FRACTION:
        rest = written / fraction - written
        needed += 2 * int(rest if room is None else min(rest, room))
    if free < needed:
        raise UserError(
            f"about {needed / 1e9:.1f} GB more are needed in {folder}, {free / 1e9:.1f} GB are free; make room and "
            "type the command again (it goes on), or limit it with --max-train-tokens"
        )
