"""Tokenizers whose ids need no transform: SentencePiece models, pure bytes, and the text-free synthetic source.

Every tokenizer tells its vocabulary, its BOS id, its byte table and its sha256, which is how artifacts, datasets and
runs know that they belong together (file names prove nothing).
Pure bytes: ids 0 to 3 are pad, bos, eos, unk; byte b is id 4 + b; vocabulary 260.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

from golf.data.bytes import SPACE_MARK, ByteTable, byte_table_of_pieces, spelled_space_of, uniform_byte_table
from golf.errors import UserError

PAD_ID, BOS_ID, EOS_ID, UNKNOWN_ID = 0, 1, 2, 3
BYTE_OFFSET = 4
BYTE_VOCABULARY = BYTE_OFFSET + 256
SPECIAL_IDS = (PAD_ID, BOS_ID, EOS_ID, UNKNOWN_ID)
PURE_BYTES = "bytes"


class Tokenizer(Protocol):
    """What the rest of golf asks of a tokenizer."""

    kind: str
    sha256: str
    vocab_size: int
    bos_id: int

    @property
    def path(self) -> str | None: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str: ...

    def byte_table(self) -> ByteTable: ...


class SentencePieceTokenizer:
    """A SentencePiece `.model` file; ids as the file defines them, no BOS added by `encode`."""

    kind = "sentencepiece"

    def __init__(self, path: str | Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.path = str(path)
        content = read_tokenizer_file(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self.pieces: Any = SentencePieceProcessor(model_proto=content)
        except RuntimeError:
            raise UserError(f"{path} is not a SentencePiece model; type tokenizer.path=<file.model>") from None
        self.vocab_size = self.pieces.vocab_size()
        self.bos_id = self.pieces.bos_id()
        if spelled_space_of(self.pieces) and type(self) is SentencePieceTokenizer:
            raise UserError(f"{path} has no piece for the space: golf.data.tokenizer.open_tokenizer opens it")

    def encode(self, text: str) -> list[int]:
        return self.pieces.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.pieces.decode([int(token) for token in ids])

    def byte_table(self) -> ByteTable:
        return byte_table_of_pieces(self.pieces)


class SpellingTokenizer(SentencePieceTokenizer):
    """A SentencePiece model that may have no piece for the space alone, and then spells it as three byte pieces."""

    def decode(self, ids: list[int]) -> str:
        text = super().decode(ids)
        return text.replace(SPACE_MARK, " ") if spelled_space_of(self.pieces) else text

    def byte_table(self) -> ByteTable:
        return super().byte_table()._replace(spelled_space=spelled_space_of(self.pieces))


class PureByteTokenizer:
    """UTF-8 bytes as tokens; lossless, no file needed."""

    kind = PURE_BYTES
    vocab_size = BYTE_VOCABULARY
    bos_id = BOS_ID

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else str(path)
        content = pure_byte_description() if path is None else read_tokenizer_file(path)
        self.sha256 = hashlib.sha256(content).hexdigest()

    def encode(self, text: str) -> list[int]:
        return [BYTE_OFFSET + byte for byte in text.encode("utf-8")]

    def decode(self, ids: list[int]) -> str:
        content = bytes(int(token) - BYTE_OFFSET for token in ids if BYTE_OFFSET <= token < BYTE_VOCABULARY)
        return content.decode("utf-8", errors="replace")

    def byte_table(self) -> ByteTable:
        return uniform_byte_table(BYTE_VOCABULARY, special_ids=SPECIAL_IDS)


class SyntheticTokenizer:
    """No text: every id but the special ones stands for `bytes_per_token` imaginary bytes."""

    kind = "synthetic"
    bos_id = BOS_ID

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        content = read_tokenizer_file(path)
        description = json.loads(content)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.vocab_size = int(description["vocab_size"])
        self.bytes_per_token = int(description["bytes_per_token"])

    def encode(self, text: str) -> list[int]:
        raise UserError("the synthetic source has no text; type data=sample or data=fineweb to work with text")

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"<{int(token)}>" for token in ids)

    def byte_table(self) -> ByteTable:
        return uniform_byte_table(self.vocab_size, self.bytes_per_token, SPECIAL_IDS)


def pure_byte_description() -> bytes:
    """Content of the file that describes the pure byte tokenizer."""
    special = {"pad_id": PAD_ID, "bos_id": BOS_ID, "eos_id": EOS_ID, "unk_id": UNKNOWN_ID}
    return json.dumps({"kind": PURE_BYTES, "vocab_size": BYTE_VOCABULARY, **special}, indent=1).encode() + b"\n"


def synthetic_description(vocab_size: int, bytes_per_token: int) -> bytes:
    """Content of the file that describes the synthetic tokenizer."""
    fields = {"kind": "synthetic", "vocab_size": vocab_size, "bytes_per_token": bytes_per_token}
    return json.dumps(fields, indent=1).encode() + b"\n"


def read_tokenizer_file(path: str | Path) -> bytes:
    """The file's content; UserError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer {path} cannot be read ({error.strerror}); type tokenizer.path=<file>") from None
