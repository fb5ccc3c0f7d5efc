"""What a token is worth in bytes: the denominator of bits per byte, and its one source.

bytes(target | previous) = base_bytes[target] + [leading_space[target] and not boundary[previous]]
SentencePiece: control, unknown and unused ids are worth 0 and are boundaries; a byte piece is worth 1; any other
piece the UTF-8 length of its text without one leading U+2581, which counts as a space unless a boundary came before.
A vocabulary without a piece for the space alone spells it as the three bytes of U+2581: together they are worth 1.
Invariant: after the BOS of a document, the bytes of its tokens add up to the UTF-8 length of the text they decode to.
Legend: V vocabulary, N tokens.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from golf.errors import UserError

SPACE_MARK = "\u2581"
SPACE_MARK_BYTES = b"\xe2\x96\x81"


class ByteTable(NamedTuple):
    """Three arrays over the vocabulary: base_bytes int64 [V], leading_space bool [V], boundary bool [V].

    spelled_space: ids of the bytes of U+2581, where the vocabulary has no piece for the space alone.
    """

    base_bytes: np.ndarray
    leading_space: np.ndarray
    boundary: np.ndarray
    spelled_space: tuple[int, ...] = ()

    @property
    def vocab_size(self) -> int:
        return len(self.base_bytes)

    def count(self, previous_ids: np.ndarray, target_ids: np.ndarray) -> np.ndarray:
        """Bytes of each target [N] given the id before it [N], int64.

        With a `spelled_space` the targets must be a span of a stream, and what stands before its first two is unknown.
        """
        spaces = self.leading_space[target_ids] & ~self.boundary[previous_ids]
        counts = self.base_bytes[target_ids].astype(np.int64, copy=False) + spaces
        if self.spelled_space:
            self._count_spelled_spaces(counts, previous_ids, target_ids)
        return counts

    def _count_spelled_spaces(self, counts: np.ndarray, previous_ids: np.ndarray, target_ids: np.ndarray) -> None:
        """The first two bytes of U+2581 wait for the third: 1 if it is one, else what they are worth with their own."""
        first, second, third = self.spelled_space
        begins, goes_on = target_ids == first, (previous_ids == first) & (target_ids == second)
        two_back = np.concatenate([[False], goes_on])[:-1]
        counts[(previous_ids == first) & ~goes_on] += 1
        counts[two_back] += 2
        counts[two_back & (target_ids == third)] = 1
        counts[begins | goes_on] = 0

    def count_stream(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes of the targets 1 … N−1 of a stream of N tokens, int64 [N−1]."""
        return self.count(tokens[:-1], tokens[1:])

    def arrays(self) -> dict[str, np.ndarray]:
        """The table as plain arrays, so that it can be stored and travel (see `from_arrays`)."""
        arrays = {
            "base_bytes": self.base_bytes,
            "leading_space": self.leading_space.astype(np.uint8),
            "boundary": self.boundary.astype(np.uint8),
        }
        return arrays | ({"spelled_space": np.array(self.spelled_space)} if self.spelled_space else {})

    @staticmethod
    def from_arrays(arrays: dict[str, Any]) -> "ByteTable":
        """Inverse of `arrays`."""
        table = ByteTable(
            np.asarray(arrays["base_bytes"]).astype(np.int64),
            np.asarray(arrays["leading_space"]).astype(bool),
            np.asarray(arrays["boundary"]).astype(bool),
            tuple(int(token) for token in arrays.get("spelled_space", ())),
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
    return byte_table_of_pieces(pieces)._replace(spelled_space=spelled_space_of(pieces))


def byte_table_of_pieces(pieces: Any) -> ByteTable:
    """The same where the vocabulary has a piece for the space alone."""
    worth = [worth_of_piece(pieces, token) for token in range(pieces.vocab_size())]
    base_bytes, leading_space, boundary = map(np.array, zip(*worth))
    return ByteTable(base_bytes, leading_space, boundary)


def worth_of_piece(pieces: Any, token: int) -> tuple[int, bool, bool]:
    """What the table says of one id."""
    if pieces.is_control(token) or pieces.is_unknown(token) or pieces.is_unused(token):
        return 0, False, True
    text = pieces.id_to_piece(token)
    worth = 1 if pieces.is_byte(token) else len(text.removeprefix(SPACE_MARK).encode())
    return worth, text.startswith(SPACE_MARK), False


def spelled_space_of(pieces: Any) -> tuple[int, ...]:
    """Ids of the bytes of U+2581 in a vocabulary that has byte pieces but none for the space alone; else ()."""
    if pieces.piece_to_id(SPACE_MARK) != pieces.unk_id():
        return ()
    ids = tuple(pieces.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK_BYTES)
    return ids if all(pieces.is_byte(token) for token in ids) else ()


def uniform_byte_table(vocab_size: int, bytes_per_token: int = 1, special_ids: tuple[int, ...] = ()) -> ByteTable:
    """Every id worth the same, except `special_ids`, which are worth nothing and are boundaries."""
    base_bytes = np.full(vocab_size, bytes_per_token)
    boundary = np.zeros(vocab_size, dtype=bool)
    base_bytes[list(special_ids)] = 0
    boundary[list(special_ids)] = True
    return ByteTable(base_bytes, np.zeros(vocab_size, dtype=bool), boundary)
