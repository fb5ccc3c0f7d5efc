"""What was worked out before is kept in the user's cache folder: a program is specialised and packed once.

The name of a file is the hash of what it was made from and of the code that makes it; hence nothing has to be
invalidated. Invariant: without the folder, or with a damaged file in it, everything is the same but slower.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

CHECKSUM_BYTES = 32


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/golf or ~/.cache/golf."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "golf" / "programs"


@cache
def maker() -> str:
    """Identity of the code that makes programs: this package's sources and the interpreter."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def stored(kind: str, source: str, make: Callable[[str], bytes]) -> bytes:
    """`make(source)`, from the cache where it has it."""
    name = hashlib.sha256(f"{maker()} {kind} {source}".encode()).hexdigest()
    path = cache_folder() / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[CHECKSUM_BYTES:]).digest() == content[:CHECKSUM_BYTES]:
            return content[CHECKSUM_BYTES:]
    except OSError:  # not there, or not to be read: made anew
        pass
    made = make(source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(made).digest() + made)
        os.replace(file.name, path)
    except OSError:  # a full disk or a folder that is read-only: slower the next time
        pass
    return made
