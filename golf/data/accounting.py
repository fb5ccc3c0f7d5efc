"""Bytes of documents, proven one by one: what the text has, what the tokenizer keeps, and what a score divides by.

raw: UTF-8 of the source. normalised: of decode(encode(document)). counted: what the byte table, or the sidecar, adds
up to. A document is exact if counted == normalised (SentencePiece, whose normaliser may lose bytes: they are told), or
counted == raw (CaseOps with its sidecar; what its normaliser drops at the ends is told); pure bytes and GPT-2 are both.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from golf.data.bytes import ByteTable
from golf.data.tokenizer_kinds import Tokenizer

TOTALS: tuple[str, ...] = (
    "documents",
    "raw_bytes",
    "normalised_bytes",
    "counted_bytes",
    "lost_bytes",
    "changed_documents",
    "inexact_documents",
)


def has_sidecar(tokenizer: Tokenizer) -> bool:
    """Whether the bytes of a token depend on more than its id, so that they are stored beside the tokens."""
    return hasattr(tokenizer, "encode_with_bytes")


def encode_counted(tokenizer: Any, table: ByteTable, text: str) -> tuple[list[int], np.ndarray]:
    """(ids of a document, bytes that each of them stands for after a BOS, int64)."""
    if has_sidecar(tokenizer):
        ids, counts = tokenizer.encode_with_bytes(text)
        return ids, np.array(counts, dtype=np.int64)
    ids = tokenizer.encode(text)
    return ids, table.count_stream(np.array([tokenizer.bos_id, *ids], dtype=np.int64))


def document_totals(tokenizer: Tokenizer, document: str, ids: list[int], counted: int) -> dict[str, int]:
    """The totals of one document, by name as in TOTALS."""
    decoded = tokenizer.decode(ids)
    raw, normalised = len(document.encode("utf-8")), len(decoded.encode("utf-8"))
    kept = raw if has_sidecar(tokenizer) else normalised
    values = (1, raw, normalised, counted, raw - (counted if has_sidecar(tokenizer) else normalised))
    return dict(zip(TOTALS, (*values, int(decoded != document), int(counted != kept))))


def add_totals(totals: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Sum of two sets of totals."""
    return {name: totals.get(name, 0) + more[name] for name in TOTALS}


def normalisation_report(tokenizer: Tokenizer, documents: Iterable[str]) -> dict[str, Any]:
    """What the tokenizer does to the documents, and whether the bytes that are counted are those that it keeps.

    `exact`: true of every single document; `lost_bytes`: raw bytes that are in no denominator.
    """
    table = tokenizer.byte_table()
    totals = dict.fromkeys(TOTALS, 0)
    for document in documents:
        ids, counts = encode_counted(tokenizer, table, document)
        totals = add_totals(totals, document_totals(tokenizer, document, ids, int(counts.sum())))
    return {**totals, "exact": totals["inexact_documents"] == 0}
