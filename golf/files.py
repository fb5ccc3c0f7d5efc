"""Files that are either whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

from golf.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
DISK_ERRORS = (*FULL, *FORBIDDEN, errno.EIO, errno.ENAMETOOLONG)  # a disk that refuses, not a mistake of ours


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Raises:
        UserError: no space left, or no permission; what was there before is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> UserError:
    """The one line for a disk that refuses: what happened, what is safe, what to do."""
    if error.errno in FULL:
        why, todo = "no space left on the disk", "free some space and resume with python train.py run=<folder>"
    elif error.errno in FORBIDDEN:
        why, todo = "no permission to write", "choose a writable folder with hydra.run.dir=<folder>"
    else:
        why, todo = error.strerror or str(error), "resume with python train.py run=<folder>"
    return UserError(f"cannot write {path}: {why}; the last finished state is untouched: {todo}")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_yaml(path: Path) -> Any:
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same values, ten times as fast
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): restore it or start a new run") from error


def write_yaml(path: Path, value: Any) -> None:
    import yaml

    write_atomically(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
