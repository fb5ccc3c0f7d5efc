"""CaseOps: a text without ASCII capitals, and the four operators that bring them back (lossless_caps_caseops_v1).

TITLE U+E001, ALLCAPS U+E002, CAPNEXT U+E003, ESC U+E004. Of every maximal run w of ASCII letters:
all lower → w; two or more, all upper → ALLCAPS lower(w); first upper, the rest (not empty) lower → TITLE lower(w);
else TITLE if the first is upper, then each letter in lower case, CAPNEXT before each later one that was upper.
An operator that stands in the text itself is written ESC operator.
Invariant: decode(encode(text)) == text for every string; only ASCII letters are touched.
Bytes (the sidecar): operators 0, an escaped one 3, every other character its UTF-8 length, counted in the piece of
the source text (surface) that a token covers: so white space that the tokenizer folds into one space keeps its bytes.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from golf.data.bytes import ByteTable
from golf.data.tokenizer_kinds import SpellingTokenizer
from golf.errors import UserError

TITLE, ALLCAPS, CAPNEXT, ESCAPE = CASE_OPERATORS = "\ue001\ue002\ue003\ue004"
FIRST_OPERATOR_ID = 4
CASED_RUN = re.compile("(?<![a-z])[a-z]*+[A-Z][A-Za-z]*|[\ue001-\ue004]")
ENCODED_PART = re.compile("[\ue001-\ue004]|[A-Za-z]+|[^A-Za-z\ue001-\ue004]+")


def encode_case(text: str) -> str:
    """The text in lower case with its operators."""
    return CASED_RUN.sub(_encoded_run, text)


def _encoded_run(match: re.Match[str]) -> str:
    word = match.group()
    if word in CASE_OPERATORS:
        return ESCAPE + word
    lower = word.lower()
    if len(word) > 1 and word.isupper():
        return ALLCAPS + lower
    if len(word) > 1 and word[1:].islower():
        return TITLE + lower if word[0] != lower[0] else lower
    marked = (small if big == small else CAPNEXT + small for big, small in zip(word[1:], lower[1:]))
    return (TITLE if word[0] != lower[0] else "") + lower[0] + "".join(marked)


def decode_case(encoded: str, strict: bool = True) -> str:
    """Inverse of `encode_case`.

    Raises:
        ValueError: an operator where none can stand; with `strict` off (text of a model) it is left out instead.
    """
    state = CaseState(strict)
    parts = [state.read(part) for part in ENCODED_PART.findall(encoded)]
    if state.waiting:
        state.refuse("the end of the text")
    return "".join(parts)


class CaseState:
    """What the operators read so far ask of the next characters."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.waiting = ""  # the operator that waits for its character
        self.in_word = self.capitals = False

    def read(self, part: str) -> str:
        """The text that one part (an operator, letters, or anything else) stands for."""
        literal = ""
        if self.waiting == ESCAPE:
            literal, part, self.waiting = part[0], part[1:], ""
            self.in_word = literal.isascii() and literal.isalpha()
            self.capitals = False
        if not part:
            return literal
        if part in CASE_OPERATORS:
            at_word_start = part in (CAPNEXT, ESCAPE) or not self.in_word
            if self.waiting or not at_word_start:
                self.refuse(repr(part))
            self.waiting = part
            return literal
        if not (part[0].isascii() and part[0].isalpha()):
            if self.waiting:
                self.refuse(repr(part[0]))
            self.waiting, self.in_word, self.capitals = "", False, False
            return literal + part
        if self.waiting:
            self.capitals = self.capitals or self.waiting == ALLCAPS
            part, self.waiting = part[0].upper() + part[1:], ""
        self.in_word = True
        return literal + (part.upper() if self.capitals else part)

    def refuse(self, found: str) -> None:
        if self.strict:
            raise ValueError(f"CaseOps text is malformed: {found} after {self.waiting!r}")


def surface_bytes(surfaces: Iterable[str]) -> list[int]:
    """Bytes of the source text that each surface of an encoded document accounts for."""
    escaped, counts = False, []
    for surface in surfaces:
        if not (escaped or any(mark in surface for mark in CASE_OPERATORS)):
            counts.append(len(surface.encode("utf-8")))
            continue
        count = 0
        for character in surface:
            if escaped or character not in CASE_OPERATORS:
                count += len(character.encode("utf-8"))
                escaped = False
            else:
                escaped = character == ESCAPE
        counts.append(count)
    return counts


class CaseOpsTokenizer(SpellingTokenizer):
    """A SentencePiece model over encoded text; ids 4 to 7 are the operators, each a piece that never merges.

    How many bytes a token stands for is not a function of its id alone: a validation split comes with a sidecar.
    """

    kind = "caseops"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        if not has_case_operators(self.pieces):
            raise UserError(f"{path} has no CaseOps operators at ids 4 to 7; name a model that was trained with them")

    def encode(self, text: str) -> list[int]:
        return super().encode(encode_case(text))

    def decode(self, ids: list[int]) -> str:
        return decode_case(super().decode(ids), strict=False)

    def encode_with_bytes(self, text: str) -> tuple[list[int], list[int]]:
        """(ids, bytes of the source that each of them accounts for)."""
        pieces = surfaces_of(self.pieces, encode_case(text))
        return [piece.id for piece in pieces], surface_bytes(piece.surface for piece in pieces)

    def byte_table(self) -> ByteTable:
        """Bytes in the normalised text: operators 0. An operator that is escaped is worth 3 only in a sidecar."""
        table = super().byte_table()
        base_bytes = np.array(table.base_bytes)
        base_bytes[FIRST_OPERATOR_ID : FIRST_OPERATOR_ID + len(CASE_OPERATORS)] = 0
        return ByteTable(base_bytes, table.leading_space, table.boundary)


def has_case_operators(pieces: Any) -> bool:
    """Whether a loaded SentencePieceProcessor has the four operators at ids 4 to 7."""
    ids = range(FIRST_OPERATOR_ID, FIRST_OPERATOR_ID + len(CASE_OPERATORS))
    return pieces.vocab_size() > ids[-1] and all(pieces.id_to_piece(i) == mark for i, mark in zip(ids, CASE_OPERATORS))


def surfaces_of(pieces: Any, text: str) -> Any:
    """Pieces (id, surface) of a text, with the library's present and its former interface."""
    former = getattr(pieces, "encode_as_immutable_proto", None)
    return former(text).pieces if former else pieces.encode(text, return_type="proto").pieces
