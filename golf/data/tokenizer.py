"""Tokenizers: SentencePiece models, pure bytes, and the text-free tokenizer of the synthetic source.

Every tokenizer tells its vocabulary, its BOS id, its byte table and its sha256, which is how artifacts, datasets and
runs know that they belong together (file names prove nothing).
Pure bytes: ids 0 to 3 are pad, bos, eos, unk; byte b is id 4 + b; vocabulary 260.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

from golf.data.bytes import ByteTable, byte_table_from_processor, uniform_byte_table
from golf.errors import UserError

PAD_ID, BOS_ID, EOS_ID, UNKNOWN_ID = 0, 1, 2, 3
BYTE_OFFSET = 4
BYTE_VOCABULARY = BYTE_OFFSET + 256
SPECIAL_IDS = (PAD_ID, BOS_ID, EOS_ID, UNKNOWN_ID)
AUTOMATIC = "auto"
PURE_BYTES = "bytes"
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json")


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
            self._pieces: Any = SentencePieceProcessor(model_proto=content)
        except RuntimeError:
            raise UserError(f"{path} is not a SentencePiece model; type tokenizer.path=<file.model>") from None
        self.vocab_size = self._pieces.vocab_size()
        self.bos_id = self._pieces.bos_id()

    def encode(self, text: str) -> list[int]:
        return self._pieces.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self._pieces.decode([int(token) for token in ids])

    def byte_table(self) -> ByteTable:
        return byte_table_from_processor(self._pieces)


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


def find_tokenizer(folder: str | Path) -> str:
    """The tokenizer that belongs to a dataset folder: inside it, or beside it in the challenge's official layout.

    Official layout: datasets/fineweb10B_sp<V> with tokenizers/fineweb_<V>_bpe.model two levels up.
    """
    folder = Path(folder)
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            return str(folder / name)
    suffix = folder.resolve().name.rpartition("_")[2]
    official = "fineweb_pure_byte_260.json" if suffix == "byte260" else f"fineweb_{suffix.removeprefix('sp')}_bpe.model"
    candidate = folder.resolve().parent.parent / "tokenizers" / official
    if candidate.is_file():
        return str(candidate)
    raise UserError(f"no tokenizer in {folder} nor at {candidate}; type tokenizer.path=<file>")


def load_tokenizer(path: str = AUTOMATIC, vocab_size: int | None = None, folder: str | Path | None = None) -> Tokenizer:
    """Open a tokenizer: a file, "bytes", or "auto" = the one that belongs to the dataset `folder`.

    With `vocab_size` the tokenizer must have exactly that many ids, else UserError.
    """
    if path == AUTOMATIC:
        if folder is None:
            raise UserError("tokenizer.path=auto needs a dataset folder; type tokenizer.path=<file>")
        path = find_tokenizer(folder)
    tokenizer = open_tokenizer(path)
    if vocab_size is not None and tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"tokenizer {path} has {tokenizer.vocab_size} ids, but tokenizer.vocab_size={vocab_size}; "
            f"type tokenizer.vocab_size={tokenizer.vocab_size}, or name another tokenizer.path"
        )
    return tokenizer


def open_tokenizer(path: str | Path) -> Tokenizer:
    """Open a tokenizer by what its file says it is."""
    if str(path) == PURE_BYTES:
        return PureByteTokenizer()
    if not str(path).endswith(".json"):
        return SentencePieceTokenizer(path)
    try:
        description = json.loads(read_tokenizer_file(path))
        kind = description.get("kind", description.get("tokenizer_type"))
    except (ValueError, AttributeError):
        raise UserError(f"tokenizer {path} is not a JSON object; type tokenizer.path=<file>") from None
    if kind in (PURE_BYTES, "pure_byte", "byte"):
        return PureByteTokenizer(path)
    if kind == "synthetic":
        return SyntheticTokenizer(path)
    raise UserError(f"tokenizer {path} is of unknown kind {kind!r}; known: bytes, synthetic, or a SentencePiece .model")


def normalisation_report(tokenizer: Tokenizer, documents: list[str]) -> dict[str, Any]:
    """What the tokenizer's normaliser does to the documents, and whether the byte table counts what is left.

    Bytes are UTF-8. `counted_bytes` is the sum of the byte table over each document after a BOS; `exact` says that
    for every single document it equals the length of decode(encode(document)).
    """
    table = tokenizer.byte_table()
    base_bytes, leading_space = table.base_bytes.tolist(), table.leading_space.tolist()
    boundary = table.boundary.tolist()
    totals = {
        "documents": len(documents),
        "raw_bytes": 0,
        "normalised_bytes": 0,
        "counted_bytes": 0,
        "changed_documents": 0,
    }
    exact = True
    for document in documents:
        ids = tokenizer.encode(document)
        normalised = tokenizer.decode(ids)
        length = len(normalised.encode("utf-8"))
        previous_ids = [tokenizer.bos_id, *ids]
        counted = sum(base_bytes[i] + (leading_space[i] and not boundary[p]) for p, i in zip(previous_ids, ids))
        totals["raw_bytes"] += len(document.encode("utf-8"))
        totals["normalised_bytes"] += length
        totals["counted_bytes"] += counted
        totals["changed_documents"] += normalised != document
        exact = exact and counted == length
    return {**totals, "lost_bytes": totals["raw_bytes"] - totals["normalised_bytes"], "exact": exact}
