"""Datasets: a folder of shards, its tokenizer and its manifest, whatever the source.

A data option is a class with `prepare(...) -> PreparedData` and the three keys of the training stream; this file
holds what they share. A dataset folder has fineweb_train_*.bin, fineweb_val_*.bin, a tokenizer and manifest.json.
Legend: V vocabulary.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from golf.data.accounting import TOTALS, add_totals, document_totals, encode_counted, has_sidecar
from golf.data.bytes import ByteTable
from golf.data.manifest import data_identity, describe_files, read_manifest, sha256_of_file, write_manifest
from golf.data.overlap import OverlapReport, check_overlap
from golf.data.shards import (
    Shards,
    read_shard,
    require_vocabulary,
    require_window,
    train_shards,
    validation_shards,
    write_shard,
)
from golf.data.sidecar import ByteSidecar, byte_counter
from golf.data.stream import TokenStream
from golf.data.tokenizer import load_tokenizer
from golf.data.tokenizer_kinds import Tokenizer
from golf.errors import UserError

SHARD_TOKENS = 100_000_000
DOCUMENTS_NAME = "docs_selected.jsonl"


@dataclass(frozen=True)
class PreparedData:
    """A dataset ready to use: all paths exist. `train_paths` is empty where training data was not asked for."""

    folder: str
    train_paths: tuple[str, ...]
    val_paths: tuple[str, ...]
    tokenizer_path: str

    def validation_tokens(self, vocab_size: int | None = None) -> np.ndarray:
        """The whole validation stream, uint16, every id checked against the vocabulary if one is given."""
        return Shards(self.val_paths, vocab_size).read_all()

    def tokenizer(self, vocab_size: int | None = None) -> Tokenizer:
        return load_tokenizer(self.tokenizer_path, vocab_size)

    def byte_counter(self, vocab_size: int | None = None) -> ByteTable | ByteSidecar:
        """What a score divides by: the tokenizer's byte table, or the validation split's sidecar."""
        return byte_counter(self.tokenizer(vocab_size), self.val_paths)

    def identity(self) -> dict[str, Any]:
        """Hashes of manifest and validation shards, sizes of the training shards: what a run records."""
        return data_identity(self.folder, self.val_paths, self.train_paths)


class Dataset(Protocol):
    """What a data option offers."""

    tokens_per_step: int
    seq_len: int
    spans_per_step: int

    def prepare(self, say: Callable[[str], None] = print, require_train: bool = True) -> PreparedData: ...

    def stream(self, prepared: PreparedData, vocab_size: int | None = None, unique_tokens: int = 0) -> TokenStream: ...


class ShardedDataset:
    """The training stream over the shards of a prepared folder, shared by every data option.

    order: builds the stream from the shards and the three sizes (the config group data/order).
    """

    def __init__(
        self, tokens_per_step: int, seq_len: int, spans_per_step: int, order: Callable[..., TokenStream]
    ) -> None:
        self.tokens_per_step = tokens_per_step
        self.seq_len = seq_len
        self.spans_per_step = spans_per_step
        self.order = order

    def stream(self, prepared: PreparedData, vocab_size: int | None = None, unique_tokens: int = 0) -> TokenStream:
        """The endless stream; with `vocab_size` every batch is checked for ids outside the vocabulary.

        unique_tokens: of the split only the first so many, again and again; 0 = all.
        """
        shards = Shards(prepared.train_paths, vocab_size, prepared.tokenizer().bos_id, unique_tokens)
        return self.order(shards, self.tokens_per_step, self.seq_len, self.spans_per_step)

    def open_own(self, folder: Path, vocab_size: int, require_train: bool) -> PreparedData:
        """A folder that golf made itself: nothing to distrust but the settings (vocabulary, one window)."""
        prepared = open_folder(folder, require_train=require_train)
        load_tokenizer(prepared.tokenizer_path, vocab_size)
        require_window(len(Shards(prepared.val_paths)), self.seq_len)
        return prepared


def open_folder(folder: str | Path, tokenizer: str = "auto", require_train: bool = True) -> PreparedData:
    """Paths of an existing dataset folder; UserError if a split or the tokenizer is missing."""
    val_paths = tuple(validation_shards(folder))
    train_paths = tuple(train_shards(folder)) if require_train else ()
    found = load_tokenizer(tokenizer, folder=folder)
    return PreparedData(str(folder), train_paths, val_paths, found.path or tokenizer)


def check_prepared(prepared: PreparedData, seq_len: int, vocab_size: int | None = None) -> OverlapReport | None:
    """Headers and sizes of all shards, ids of validation (all) and training (start of each shard), tokenizer size,
    one window of validation, overlap of the splits, files as in the manifest. UserError on the first fault; returns
    the overlap report."""
    tokenizer = load_tokenizer(prepared.tokenizer_path, vocab_size)
    require_window(len(Shards(prepared.val_paths)), seq_len)
    require_own_tokenizer(prepared, tokenizer)
    for path in prepared.val_paths:
        require_vocabulary(np.asarray(read_shard(path)), tokenizer.vocab_size, path)
    for path in prepared.train_paths:
        require_vocabulary(np.asarray(read_shard(path))[:1_000_000], tokenizer.vocab_size, path)
    report = None
    if prepared.train_paths:
        report = check_overlap(list(prepared.train_paths), list(prepared.val_paths), tokenizer.bos_id)
    require_manifest_files(prepared)
    return report


def require_manifest_files(prepared: PreparedData) -> None:
    """UserError if the shards are not those of golf's manifest: sizes of all, contents of the validation shards.

    A split that was cut short, put in another order or replaced is noticed here, before anything is scored on it.
    """
    manifest = read_manifest(prepared.folder)
    if manifest is None:
        return
    remedy = f"type golf data verify {prepared.folder}, and make or fetch the folder again"
    for path in (*prepared.val_paths, *prepared.train_paths):
        entry = manifest["files"].get(Path(path).name)
        if entry is None:
            raise UserError(f"{path} is not one of the {len(manifest['files'])} files of the manifest; {remedy}")
        size = Path(path).stat().st_size
        if size != entry["bytes"]:
            raise UserError(f"{path} has {size} bytes, the manifest says {entry['bytes']}; {remedy}")
        found = sha256_of_file(path) if path in prepared.val_paths else entry["sha256"]
        if found != entry["sha256"]:
            raise UserError(
                f"{path} is another split, or in another order: sha256 {found[:16]}…, expected "
                f"{entry['sha256'][:16]}…; {remedy}"
            )


def require_own_tokenizer(prepared: PreparedData, tokenizer: Tokenizer) -> None:
    """UserError if the shards were made with another tokenizer: by the manifest's sha256 where golf wrote one, else
    by the ids (SentencePiece puts the commonest single characters last, so real text reaches the upper half)."""
    manifest = read_manifest(prepared.folder)
    made_with = manifest["tokenizer"].get("sha256", tokenizer.sha256) if manifest else tokenizer.sha256
    if made_with != tokenizer.sha256:
        raise UserError(
            f"{prepared.folder} was made with the tokenizer of sha256 {made_with[:16]}, not {tokenizer.sha256[:16]} "
            f"({prepared.tokenizer_path}); type tokenizer.path=auto"
        )
    tokens = np.asarray(read_shard(prepared.val_paths[0]))
    if tokenizer.kind == "sentencepiece" and len(tokens) >= 4 * tokenizer.vocab_size:
        largest = int(tokens.max())
        if largest < tokenizer.vocab_size // 2:
            raise UserError(
                f"{prepared.val_paths[0]} uses no id above {largest}: it was not made with the {tokenizer.vocab_size} "
                f"ids of {prepared.tokenizer_path}; name its own tokenizer with tokenizer.path=<file>"
            )


def write_split(folder: Path, split: str, tokens: np.ndarray, shard_tokens: int = SHARD_TOKENS) -> dict[str, int]:
    """Write tokens [N] as fineweb_<split>_%06d.bin; returns tokens by file name."""
    counts = {}
    for index, first in enumerate(range(0, len(tokens), shard_tokens)):
        piece = tokens[first : first + shard_tokens]
        name = f"fineweb_{split}_{index:06d}.bin"
        write_shard(folder / name, piece)
        counts[name] = len(piece)
    return counts


def write_text_dataset(
    folder: Path,
    documents: Mapping[str, Sequence[str]],
    tokenizer: Tokenizer,
    fields: dict[str, Any],
    shard_tokens: int = SHARD_TOKENS,
) -> None:
    """Tokenise documents["val"] and documents["train"] (BOS before each, no EOS) into a whole dataset folder.

    The tokenizer's own file must already be in the folder; `fields` go into the manifest (source, licence …).
    """
    tokens_by_file: dict[str, int] = {}
    splits: dict[str, dict[str, Any]] = {}
    with open(folder / DOCUMENTS_NAME, "w", encoding="utf-8") as file:
        for split in ("val", "train"):
            for text in documents[split]:
                file.write(json.dumps({"text": text}) + "\n")
            tokens, counts, totals = encode_documents(tokenizer, documents[split])
            tokens_by_file |= write_split(folder, split, tokens, shard_tokens)
            if split == "val" and has_sidecar(tokenizer):
                tokens_by_file |= write_split(folder, "val_bytes", counts, shard_tokens)
            splits[split] = {"tokens": len(tokens), "token_bytes": int(counts[1:].sum()), **totals}
            splits[split]["exact"] = totals["inexact_documents"] == 0
    write_manifest(
        folder,
        {
            **fields,
            "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256},
            "splits": splits,
            "files": describe_files(folder, tokens_by_file),
        },
    )


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """([BOS, tokens of document] for every document uint16 [N], bytes of each token int64 [N], totals of bytes)."""
    if not documents:
        raise UserError("a split has no documents; use a larger source or another data.validation_fraction")
    table = tokenizer.byte_table()
    tokens: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    totals = dict.fromkeys(TOTALS, 0)
    for text in documents:
        ids, token_bytes = encode_counted(tokenizer, table, text)
        tokens.append(np.array([tokenizer.bos_id, *ids], dtype=np.uint16))
        counts.append(np.concatenate([[0], token_bytes]))
        totals = add_totals(totals, document_totals(tokenizer, text, ids, int(token_bytes.sum())))
    return np.concatenate(tokens), np.concatenate(counts), totals
