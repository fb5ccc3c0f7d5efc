"""A codec whose package is missing is named before training starts, not when the trained model is packed. No torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

# Class of a codec -> (module to import, what to install).
PACKAGES = {
    **dict.fromkeys(("BrotliCodec", "GroupedBrotli"), ("brotli", "brotli>=1.2")),
    "ZstdCodec": ("zstandard", "zstandard"),
    **dict.fromkeys(("ZpaqCodec", "GroupedZpaq"), ("zpaq", "zpaq")),
}


def codec_package(config: dict[str, Any]) -> list[str]:
    """One line if the chosen codec cannot work here."""
    node = config.get("codec")
    target = node.get("_target_") if isinstance(node, dict) else None
    module, package = PACKAGES.get(str(target).rpartition(".")[2], ("", ""))
    if not module or installed(module, package):
        return []
    return [f"codec ({target}) needs the package '{package}': pip install '{package}', or type codec=lzma"]


def installed(module: str, package: str) -> bool:
    """Whether a module can be found, in a version that golf can use (brotli's decoder is bounded from 1.2 on)."""
    try:
        if importlib.util.find_spec(module) is None:
            return False
    except (ImportError, ValueError):
        return False
    name, _, least = package.partition(">=")
    if not least:
        return True
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return [int(digits) for digits in found.split(".")[:2] if digits.isdigit()] >= [int(d) for d in least.split(".")]
