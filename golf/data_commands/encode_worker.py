"""What a worker does with a batch of documents: parse, check, hash, encode, count bytes.

Parsing is part of the work here, so that the process which reads and writes has next to none.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from golf.data.accounting import TOTALS, add_totals, document_totals, encode_counted
from golf.data.tokenizer import open_tokenizer
from golf.data_commands.sources import DocumentBatch
from golf.errors import UserError

HASH_BYTES = 16
SHOWN_CHARACTERS = 60
MAX_SIDECAR_BYTES = 0xFFFF


@dataclass(frozen=True)
class EncodedBatch:
    """tokens uint16 [N] with a BOS before each document; `lengths` of the documents, BOS included; their hashes.

    counts: bytes of each token (validation only, else empty). totals: see golf.data.accounting; for training only
    documents and raw_bytes are known.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    hashes: list[bytes]
    counts: np.ndarray
    totals: dict[str, int]


class EncodeWorker:
    """A tokenizer and what goes with it, opened once per process."""

    def __init__(self, tokenizer: str, field: str) -> None:
        self.tokenizer: Any = open_tokenizer(tokenizer)
        self.field = field
        self.table = self.tokenizer.byte_table()

    def encode(self, batch: DocumentBatch, prove: bool) -> EncodedBatch:
        """Encode a batch. `prove`: count each document's bytes and compare with its text (validation)."""
        texts = [
            parsed_text(item, self.field, f"{batch.path}, document {batch.first + number + 1}")
            for number, item in enumerate(batch.items)
        ]
        hashes = [document_hash(text) for text in texts]
        if prove:
            ids, counts, totals = self._counted(texts)
            if int(counts.max()) > MAX_SIDECAR_BYTES:
                worth = int(counts.max())
                raise UserError(f"{batch.path}: a token stands for {worth:,} bytes, over 65,535; shorten its text")
        else:
            ids, counts, totals = encode_all(self.tokenizer, texts), np.zeros(0, dtype=np.int64), None
        bos = self.tokenizer.bos_id
        lengths = np.array([len(document) + 1 for document in ids], dtype=np.int64)
        flat = chain.from_iterable(chain((bos,), document) for document in ids)
        tokens = np.fromiter(flat, dtype=np.uint16, count=int(lengths.sum()))
        if totals is None:
            raw = sum(len(text.encode("utf-8")) for text in texts)
            totals = dict.fromkeys(TOTALS, 0) | {"documents": len(texts), "raw_bytes": raw}
        return EncodedBatch(tokens, lengths, hashes, counts, totals)

    def _counted(self, texts: list[str]) -> tuple[list[list[int]], np.ndarray, dict[str, int]]:
        all_ids: list[list[int]] = []
        all_counts: list[np.ndarray] = []
        totals = dict.fromkeys(TOTALS, 0)
        for text in texts:
            ids, counts = encode_counted(self.tokenizer, self.table, text)
            totals = add_totals(totals, document_totals(self.tokenizer, text, ids, int(counts.sum())))
            all_ids.append(ids)
            all_counts += [np.zeros(1, dtype=np.int64), counts]
        return all_ids, np.concatenate(all_counts), totals


def parsed_text(item: Any, field: str, where: str) -> str:
    """The text of a document, which is a JSON line or the text itself; UserError names its place if there is none."""
    text = item
    if isinstance(item, bytes):
        try:
            entry = json.loads(item)
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: invalid UTF-8 at byte {error.start} of the line; repair that line") from None
        except ValueError as error:
            raise UserError(f"{where}: not JSON ({error}); repair that line, or name another file") from None
        if not isinstance(entry, dict) or field not in entry:
            known = ", ".join(list(entry)[:8]) if isinstance(entry, dict) else "no keys"
            raise UserError(f"{where}: no key {field!r} (it has {known}); type --field <key of the text>")
        text = entry[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: the text is {str(text)[:SHOWN_CHARACTERS]!r}, not a string; repair it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: character {error.start} is half of a surrogate pair; repair that text") from None
    return text


def encode_all(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of each text. SentencePiece takes a list at once."""
    if tokenizer.kind == "sentencepiece":
        return tokenizer.pieces.encode(texts, num_threads=1)
    return [tokenizer.encode(text) for text in texts]


def document_hash(text: str) -> bytes:
    """What two equal documents share: a hash of the text without surrounding white space."""
    return hashlib.blake2b(text.strip().encode("utf-8"), digest_size=HASH_BYTES).digest()


_worker: list[EncodeWorker] = []  # one per process, set by `start`


def start(tokenizer: str, field: str) -> None:
    """Open the tokenizer in a worker process, which ends when the process that writes is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker[:] = [EncodeWorker(tokenizer, field)]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work(batch: DocumentBatch, prove: bool) -> EncodedBatch:
    """A batch in a worker process."""
    return _worker[0].encode(batch, prove)
