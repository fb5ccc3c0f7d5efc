"""Make a folder once, whole, no matter how many processes want it at the same time.

The work happens in a temporary folder beside the final one, which a rename puts in place; a file lock (released by
the operating system when its owner dies) makes the others wait. Invariant: the final folder never exists half-made.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from golf.data.manifest import is_complete
from golf.errors import UserError


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; where the system has no such locks, the atomic rename alone protects."""
    with open(path, "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield


def build_folder_once(final: Path, build: Callable[[Path], None]) -> Path:
    """Return `final`, made by `build(temporary folder)` if it is not there or not complete."""
    if is_complete(final):
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(final.parent / f"{final.name}.lock"):
            if not is_complete(final):
                _build_and_rename(final, build)
    except OSError as error:
        raise UserError(
            f"cannot write {final} ({error.strerror or error}); "
            "type data.folder=<folder with space and write permission>"
        ) from None
    return final


def _build_and_rename(final: Path, build: Callable[[Path], None]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        build(temporary)
        temporary.chmod(0o755)
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
