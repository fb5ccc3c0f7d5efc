"""What `golf data retokenise` is asked for, and what of it decides the bytes of the shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.data.shards import MAX_SHARD_TOKENS
from golf.data.tokenizer_kinds import PURE_BYTES, pure_byte_description, read_tokenizer_file
from golf.data_commands.sources import DocumentFiles
from golf.errors import UserError

OFFICIAL_VALIDATION_DOCUMENTS = 50_000
SHARD_TOKENS = 100_000_000
MAX_VOCABULARY = 65_536


@dataclass(frozen=True)
class Request:
    """What is to be made. `validation`: files of their own; then all their documents are validation."""

    files: DocumentFiles
    folder: Path
    tokenizer: str
    val_docs: int = OFFICIAL_VALIDATION_DOCUMENTS
    validation: DocumentFiles | None = None
    shard_tokens: int = SHARD_TOKENS
    max_train_tokens: int | None = None
    workers: int = 1
    drop_overlap: bool = False
    restart: bool = False

    @property
    def validation_limit(self) -> int | None:
        """How many of the first documents are validation; None: all of a file of their own."""
        return None if self.validation is not None else self.val_docs


def check_request(request: Request, tokenizer: Any) -> None:
    """UserError if the shards could not be made, or not be read."""
    if tokenizer.vocab_size > MAX_VOCABULARY:
        size = f"{tokenizer.vocab_size:,} ids"
        raise UserError(f"{request.tokenizer} has {size}; shards hold ids up to 65,535: use a smaller vocabulary")
    if tokenizer.bos_id < 0:
        raise UserError(f"{request.tokenizer} has no BOS, which begins every document; train it with bos_id=1")
    if not 1 <= request.shard_tokens <= MAX_SHARD_TOKENS:
        raise UserError(f"--shard-tokens {request.shard_tokens} is not within 1 to {MAX_SHARD_TOKENS}")
    if request.val_docs < 0 or request.workers < 1:
        raise UserError("--val-docs is at least 0 and --workers at least 1")


def settings_of(request: Request, tokenizer: Any) -> dict[str, Any]:
    """Everything that decides the bytes of the shards."""
    return {
        "tokenizer_sha256": tokenizer.sha256,
        "files": request.files.identity(),
        "validation_files": request.validation.identity() if request.validation else None,
        "field": request.files.field,
        "val_docs": request.validation_limit,
        "shard_tokens": request.shard_tokens,
        "max_train_tokens": request.max_train_tokens,
    }


def tokenizer_copy(path: str) -> tuple[str, bytes]:
    """Name and content of a tokenizer's file in a dataset folder."""
    if path == PURE_BYTES:
        return "tokenizer.json", pure_byte_description()
    suffix = Path(path).suffix
    return f"tokenizer{suffix if suffix in ('.json', '.tiktoken') else '.model'}", read_tokenizer_file(path)
