"""The data behind a score: tokenizer, byte table, validation tokens and documents, training shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golf.errors import UserError

if TYPE_CHECKING:
    from golf.rules.subject import Subject

SAMPLED_DOCUMENTS = 200


@dataclass
class Material:
    """`byte_table` is the table that a score is divided by, `sidecar` the bytes of the split's tokens where they are
    stored instead (CaseOps); `sources` the texts that documents were made from."""

    tokenizer: Any
    byte_table: Any
    val_tokens: np.ndarray
    train_paths: list[str] = field(default_factory=list)
    val_paths: list[str] = field(default_factory=list)
    sources: list[str] | None = None
    folder: str | None = None
    tokenizer_path: str = "auto"
    manifest: dict[str, Any] | None = None
    sidecar: Any = None

    def documents(self, count: int = SAMPLED_DOCUMENTS) -> Iterator[tuple[int, np.ndarray]]:
        """(number, tokens with the BOS) of the first documents and of others spread over the split."""
        starts = np.flatnonzero(self.val_tokens == self.tokenizer.bos_id)
        ends = np.append(starts[1:], len(self.val_tokens))
        chosen = np.unique(
            np.r_[
                np.arange(min(count // 2, starts.size)), np.linspace(0, max(starts.size - 1, 0), count // 2).astype(int)
            ]
        )
        for number in chosen[: starts.size].tolist():
            yield number, np.asarray(self.val_tokens[starts[number] : ends[number]])


def counted_bytes(material: Material, tokens: int) -> int:
    """What the first targets of the split, up to a number of tokens, are worth in all."""
    if material.sidecar is not None:
        return int(material.sidecar.bytes_of(1, tokens + 1).sum())
    span = material.val_tokens[: tokens + 1]
    return int(material.byte_table.count(span[:-1], span[1:]).sum())


def sidecar_documents(material: Material) -> list[tuple[int, int, int]]:
    """(number, bytes that its sidecar gives a document, bytes of its source) of the documents whose source is known.

    White space around a document is in no token of the published model: its source may be counted without.
    """
    found: list[tuple[int, int, int]] = []
    if material.sidecar is None or material.sources is None:
        return found
    starts = np.flatnonzero(material.val_tokens == material.tokenizer.bos_id)
    ends = np.append(starts[1:], len(material.val_tokens))
    for number, _ in material.documents():
        counted = int(material.sidecar.bytes_of(int(starts[number]), int(ends[number])).sum())
        source = material.sources[number]
        bare = len(source.strip().encode("utf-8"))
        found.append((number, counted, bare if counted == bare else len(source.encode("utf-8"))))
    return found


def material_of(subject: Subject) -> Material | None:
    """A run's own data (as pinned in data.json, else as prepared), or the folder given with --data."""
    folder, tokenizer = subject.data_folder, subject.tokenizer_file or "auto"
    pinned = subject.folder / "data.json" if subject.folder is not None else None
    if folder is None and pinned is not None and pinned.is_file():
        found = json.loads(pinned.read_text(encoding="utf-8"))
        folder, tokenizer = found["folder"], found["tokenizer"]
    if folder is None or not Path(folder).is_dir():
        return None
    from golf.data.dataset import DOCUMENTS_NAME, open_folder
    from golf.data.manifest import read_manifest

    try:
        prepared = open_folder(folder, tokenizer)
    except UserError:
        prepared = open_folder(folder, tokenizer, require_train=False)
    used, counter = prepared.tokenizer(), prepared.byte_counter()
    material = Material(
        used,
        used.byte_table(),
        prepared.validation_tokens(),
        list(prepared.train_paths),
        list(prepared.val_paths),
        folder=prepared.folder,
        tokenizer_path=prepared.tokenizer_path,
        manifest=read_manifest(folder),
        sidecar=counter if hasattr(counter, "bytes_of") else None,
    )
    texts = Path(folder) / DOCUMENTS_NAME
    if texts.is_file():
        material.sources = _first_documents(texts, int((material.val_tokens == used.bos_id).sum()))
    return material


def _first_documents(path: Path, count: int) -> list[str]:
    """Texts of the validation documents, which come first in the file."""
    found: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if len(found) == count:
                break
            found.append(json.loads(line)["text"])
    return found
