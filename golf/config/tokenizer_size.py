"""How many tokens a tokenizer has, without its library: SentencePiece files are counted by their outermost messages."""

from __future__ import annotations

from pathlib import Path


def tokenizer_size(path: str) -> int | None:
    """Tokens of the byte tokenizer or of a SentencePiece file (its top-level messages of field 1); None if unknown."""
    if path == "bytes":
        return 260
    file = Path(path)
    if file.suffix != ".model" or not file.is_file():
        return None
    data, position, pieces = file.read_bytes(), 0, 0
    try:
        while position < len(data):
            tag, position = _varint(data, position)
            if tag & 7 != 2:  # SentencePiece's model has only length-delimited fields at the top
                return None
            length, position = _varint(data, position)
            position += length
            pieces += tag >> 3 == 1
    except IndexError:
        return None
    return pieces if position == len(data) else None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
