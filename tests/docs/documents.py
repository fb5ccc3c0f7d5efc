"""Commands in the documentation: the lines of ```bash blocks, without comments, continuation lines joined."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLACEHOLDERS = {
    "<run>": "runs/first/now",
    "<artifact>": "runs/first/now/artifact/default/model.golf",
    "<fineweb>": "data/fineweb",
    "<tokenizer>": "data/tokenizers/sp1024.model",
    "<host>": "node0",
    "<folder>": "folder",
    "<you>": "somebody",
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"^[A-Z_]+=")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of one language in a document of the repository."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return [body for found, body in _BLOCK.findall(text) if found == language]


def commands(name: str) -> list[list[str]]:
    """Every command line as words; placeholders are filled in, leading VARIABLE=value words are dropped."""
    found = []
    for block in blocks(name, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for placeholder, value in PLACEHOLDERS.items():
                line = line.replace(placeholder, value)
            words = shlex.split(line, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                words.pop(0)
            if words:
                found.append(words)
    return found
