"""Bytes as they are shipped: the size of an artifact and its code, by class, adding up exactly to the files.

The limit is decimal: code + artifact ≤ 16,000,000 bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from golf.errors import LimitExceeded, UserError

LIMIT_BYTES = 16_000_000


def sizes_of_sections(header: Mapping[str, Any], total: int) -> dict[str, int]:
    """Bytes by class of one artifact of `total` bytes: its sections by label, the rest "metadata"."""
    sizes: dict[str, int] = {}
    for (label, _, _), (stored, _, _) in zip(header["groups"], header["sections"]):
        sizes[label] = sizes.get(label, 0) + stored
    sizes["metadata"] = total - sum(sizes.values())
    return sizes


def file_bytes(path: str | Path) -> int:
    """Size of a shipped file."""
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check the path") from error


def total_bytes(artifact_path: str | Path, code_path: str | Path | None = None) -> int:
    """What counts against the limit: the artifact and, if given, the code file."""
    return file_bytes(artifact_path) + (file_bytes(code_path) if code_path is not None else 0)


def with_code(sizes: Mapping[str, int], code_path: str | Path | None) -> dict[str, int]:
    """Bytes by class with the class "code" added."""
    return {**sizes, "code": file_bytes(code_path)} if code_path is not None else dict(sizes)


def require_fit(sizes: Mapping[str, int], limit_bytes: int = LIMIT_BYTES) -> int:
    """Return the total of bytes by class.

    Raises:
        LimitExceeded: it is above `limit_bytes` (exit code 3); the message lists the classes, largest first.
    """
    total = sum(sizes.values())
    if total > limit_bytes:
        listed = ", ".join(f"{name} {size:,}" for name, size in sorted(sizes.items(), key=lambda item: -item[1]))
        raise LimitExceeded(
            f"{total:,} bytes are {total - limit_bytes:,} over the limit of {limit_bytes:,} ({listed}): "
            "use fewer bits (quant=int6_rows), a stronger codec (codec=lzma) or a smaller model"
        )
    return total
