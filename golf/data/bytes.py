"""What a token is worth in bytes: the denominator of bits per byte, and its one source.

bytes(target | previous) = base_bytes[target] + [leading_space[target] and not boundary[previous]]
SentencePiece: control, unknown and unused ids are worth 0 and are boundaries; a byte piece is worth 1; any other
piece the UTF-8 length of its text without one leading U+2581, which counts as a space unless a boundary came before.
Invariant: after the BOS of a document, the bytes of its tokens add up to the UTF-8 length of the text they decode to.
Legend: V vocabulary, N tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.errors import UserError

SPACE_MARK = "\u2581"


@dataclass(frozen=True)
class ByteTable:
    """Three arrays over the vocabulary: base_bytes int16 [V], leading_space bool [V], boundary bool [V]."""

    base_bytes: np.ndarray
    leading_space: np.ndarray
    boundary: np.ndarray

    @property
    def vocab_size(self) -> int:
        return len(self.base_bytes)

    def count(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        """Bytes of each target [N] given the id before it [N], int64."""
        spaces = self.leading_space[target_ids] & ~self.boundary[previous_ids]
        return self.base_bytes[target_ids].astype(np.int64) + spaces

    def count_stream(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes of the targets 1 … N−1 of a stream of N tokens, int64 [N−1]."""
        return self.count(tokens[:-1], tokens[1:])

    def arrays(self) -> dict[str, np.ndarray]:
        """The table as plain arrays, so that it can be stored and travel (see `from_arrays`)."""
        return {
            "base_bytes": self.base_bytes,
            "leading_space": self.leading_space.astype(np.uint8),
            "boundary": self.boundary.astype(np.uint8),
        }

    @staticmethod
    def from_arrays(arrays: dict[str, Any]) -> "ByteTable":
        """Inverse of `arrays`."""
        table = ByteTable(
            np.asarray(arrays["base_bytes"]).astype(np.int16),
            np.asarray(arrays["leading_space"]).astype(bool),
            np.asarray(arrays["boundary"]).astype(bool),
        )
        if not len(table.base_bytes) == len(table.leading_space) == len(table.boundary):
            raise UserError("the byte table's arrays differ in length; write it again from its tokenizer")
        return table


def byte_table_from_sentencepiece(path: str | Path) -> ByteTable:
    """Byte table of a SentencePiece model file."""
    from sentencepiece import SentencePieceProcessor

    return byte_table_from_processor(SentencePieceProcessor(model_file=str(path)))


def byte_table_from_processor(pieces: Any) -> ByteTable:
    """Byte table of a loaded SentencePieceProcessor."""
    vocab_size = pieces.vocab_size()
    base_bytes = np.zeros(vocab_size, dtype=np.int16)
    leading_space = np.zeros(vocab_size, dtype=bool)
    boundary = np.zeros(vocab_size, dtype=bool)
    for token in range(vocab_size):
        if pieces.is_control(token) or pieces.is_unknown(token) or pieces.is_unused(token):
            boundary[token] = True
        elif pieces.is_byte(token):
            base_bytes[token] = 1
        else:
            piece = pieces.id_to_piece(token)
            leading_space[token] = piece.startswith(SPACE_MARK)
            base_bytes[token] = len(piece.removeprefix(SPACE_MARK).encode("utf-8"))
    return ByteTable(base_bytes, leading_space, boundary)


def uniform_byte_table(vocab_size: int, bytes_per_token: int = 1, special_ids: tuple[int, ...] = ()) -> ByteTable:
    """Every id worth the same, except `special_ids`, which are worth nothing and are boundaries."""
    base_bytes = np.full(vocab_size, bytes_per_token, dtype=np.int16)
    boundary = np.zeros(vocab_size, dtype=bool)
    base_bytes[list(special_ids)] = 0
    boundary[list(special_ids)] = True
    return ByteTable(base_bytes, np.zeros(vocab_size, dtype=bool), boundary)
