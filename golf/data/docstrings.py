"""The text that every machine has: docstrings of the Python standard library (PSF licence), read without importing."""

import ast
import platform
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCSTRINGS_NAME = "python standard library docstrings"
MIN_DOCSTRING_CHARACTERS = 64
LEFT_OUT_FOLDERS = frozenset({"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"})


class StandardLibraryDocstrings:
    """A source of documents like a wheel, without a network: one docstring, one document."""

    licence = "PSF-2.0"

    def __init__(self, min_characters: int = MIN_DOCSTRING_CHARACTERS) -> None:
        self.min_characters = min_characters

    def identity(self) -> dict[str, Any]:
        return {"source": DOCSTRINGS_NAME, "python": platform.python_version(), "min_characters": self.min_characters}

    def describe(self) -> dict[str, Any]:
        attribution = "Python Software Foundation"
        return {
            "licence": self.licence,
            "attribution": attribution,
            "url": "https://docs.python.org/3/library/",
            **self.identity(),
        }

    def documents(self, cache: Path, download: Callable[[str, Path], None] | None = None) -> list[str]:
        """All docstrings of at least `min_characters`, in the order of the files; nothing is fetched or cached."""
        root = Path(sysconfig.get_paths()["stdlib"])
        texts: list[str] = []
        for path in sorted(root.rglob("*.py")):
            if not LEFT_OUT_FOLDERS.intersection(path.relative_to(root).parts):
                texts.extend(docstrings_of(path, self.min_characters))
        return texts


def docstrings_of(path: Path, min_characters: int) -> list[str]:
    """Docstrings in one source file; a file that does not parse has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return [text for text in texts if text and len(text) >= min_characters]
