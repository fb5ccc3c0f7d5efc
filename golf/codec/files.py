"""Files written whole or not at all, and read with errors that fit on one line."""

import os
from contextlib import suppress
from pathlib import Path

from golf.codec.protocol import DECODE_LIMIT_BYTES
from golf.errors import UserError


def write_whole_file(path: str | Path, data: bytes) -> None:
    """Write to a neighbour, flush to disk, rename: a full disk or a kill leaves the old file as it was."""
    target = Path(path)
    draft = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UserError(
            f"cannot write {target}: {error.strerror or error}: free space or choose another folder"
        ) from error


def read_whole_file(path: str | Path) -> bytes:
    """The file's bytes; a folder, a missing file or one too large to be an artifact is refused."""
    try:
        if Path(path).stat().st_size > 2 * DECODE_LIMIT_BYTES:
            raise UserError(f"{path} has more than {2 * DECODE_LIMIT_BYTES:,} bytes: it is not an artifact")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check the path") from error
