"""golf: language models for 16,000,000 bytes. `golf.load(path)` opens a run or an artifact; the rest is in named rooms.

Importing golf imports neither torch nor lightning: command lines answer at once, and the heavy parts load when used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("golf.loading").load
    raise AttributeError(f"module 'golf' has no attribute {name!r}")
