"""Documents to shards: streaming, parallel over cores, in order, restartable, without a second copy of anything.

Validation = the first documents (50,000 unless told otherwise), or those of a file of their own; training = the rest,
in file order. Every document is [BOS] + its tokens; documents may straddle shards, splits do not share one. Invariant:
the folder is complete when manifest.json is there; the same input gives the same bytes, whatever the number of workers
and however often it was interrupted; no training document is a validation document (by hash of the text).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from golf.data.accounting import TOTALS, add_totals, has_sidecar
from golf.data.manifest import MANIFEST_NAME, describe_files, write_manifest
from golf.data.tokenizer import open_tokenizer
from golf.data_commands.encode_pool import encoded_batches
from golf.data_commands.encode_worker import HASH_BYTES, EncodedBatch
from golf.data_commands.request import Request, check_request, settings_of, tokenizer_copy
from golf.data_commands.shard_writer import ShardWriter
from golf.data_commands.sources import DocumentBatch, DocumentFiles, Position
from golf.data_commands.space import require_space
from golf.errors import UserError
from golf.files import write_atomically

STATE_NAME = "retokenise.json"
HASHES_NAME = "retokenise.hashes"
CHECKPOINT_SECONDS = 5.0


class Retokeniser:
    """One run of `golf data retokenise`."""

    def __init__(self, request: Request, say: Callable[[str], None]) -> None:
        self.request, self.say = request, say
        self.tokenizer: Any = open_tokenizer(request.tokenizer)
        check_request(request, self.tokenizer)
        self.folder, self.settings = request.folder, settings_of(request, self.tokenizer)
        self.writers = {
            split: ShardWriter(self.folder, split, request.shard_tokens) for split in ("val", "val_bytes", "train")
        }
        self.totals = {split: dict.fromkeys(TOTALS, 0) for split in ("val", "train")}
        self.dropped = 0
        self.positions = {"val": Position(), "train": Position()}
        self.finished: list[str] = []
        self.hashes: set[bytes] = set()
        self._hashes_written = 0
        self._saved_at = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Make the folder, or go on with it; returns what is in the manifest."""
        try:
            self._open_folder()
            self._encode_split("val", self.request.validation or self.request.files, self.request.validation_limit)
            self._encode_split("train", self.request.files, None)
            return self._finish()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"no space left in {self.folder}; make room and type the command again") from None
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}); type --out <another folder>"
            ) from None
        finally:
            for writer in self.writers.values():
                writer.close()

    # -- the folder --------------------------------------------------------------------------------------------------
    def _open_folder(self) -> None:
        """Begin in an empty folder, or where a run with the same settings stopped."""
        state_path = self.folder / STATE_NAME
        if self.request.restart and state_path.is_file():
            for pattern in ("fineweb_*.bin", "fineweb_*.bin.part", "tokenizer.*", "retokenise.*"):
                for path in self.folder.glob(pattern):
                    path.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        if state_path.is_file():
            self._resume(json.loads(state_path.read_text(encoding="utf-8")))
            return
        there = sorted(path.name for path in self.folder.iterdir())
        if there:
            raise UserError(f"{self.folder} holds {there[0]} already; type --out <new folder>")
        name, content = tokenizer_copy(self.request.tokenizer)
        (self.folder / name).write_bytes(content)
        self._save()

    def _resume(self, state: dict[str, Any]) -> None:
        changed = [name for name, value in self.settings.items() if state["settings"].get(name) != value]
        if changed:
            raise UserError(
                f"{self.folder} was begun with another {changed[0]}; type --restart to begin again, or another --out"
            )
        for split, writer in self.writers.items():
            writer.resume(state["writers"][split])
        self.totals, self.dropped, self.finished = state["totals"], state["dropped"], state["finished"]
        self.positions = {split: Position(**place) for split, place in state["positions"].items()}
        content = (self.folder / HASHES_NAME).read_bytes()[: state["hashes"] * HASH_BYTES]
        self.hashes = {content[i : i + HASH_BYTES] for i in range(0, len(content), HASH_BYTES)}
        self._hashes_written = state["hashes"]
        os.truncate(self.folder / HASHES_NAME, len(content))
        done = sum(totals["documents"] for totals in self.totals.values())
        self.say(f"going on after {done:,} documents")

    def _save(self) -> None:
        """A checkpoint: files first, then what refers to them."""
        for writer in self.writers.values():
            writer.flush()
        state = {
            "settings": self.settings,
            "writers": {split: writer.checkpoint() for split, writer in self.writers.items()},
            "totals": self.totals,
            "dropped": self.dropped,
            "finished": self.finished,
            "positions": {split: place.as_dict() for split, place in self.positions.items()},
            "hashes": self._hashes_written,
        }
        (self.folder / HASHES_NAME).touch()
        write_atomically(self.folder / STATE_NAME, json.dumps(state))
        self._saved_at = time.monotonic()

    # -- encoding -----------------------------------------------------------------------------------------------------
    def _encode_split(self, split: str, files: DocumentFiles, limit: int | None) -> None:
        if split in self.finished:
            return
        if split == "train" and self.request.validation is None and self.positions["train"] == Position():
            self.positions["train"] = self.positions["val"]
        left = None if limit is None else limit - self.totals[split]["documents"]
        begun, before = time.monotonic(), self.totals[split]["raw_bytes"]
        for batch, encoded in self._encoded(files.batches(self.positions[split], left), split == "val"):
            if not self._take(split, batch, encoded):
                break
            self.positions[split] = batch.after
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self._save()
                speed = (self.totals[split]["raw_bytes"] - before) / (time.monotonic() - begun) / 1e6
                done = self.totals[split]["documents"]
                if split == "train":
                    self._require_space(batch.after)
                self.say(f"{split}: {done:,} documents, {self.writers[split].tokens:,} tokens, {speed:.1f} MB/s")
        for name in ("val", "val_bytes") if split == "val" else ("train",):
            self.writers[name].finish()
        self._require_documents(split, limit)
        self.finished.append(split)
        self._save()

    def _require_space(self, position: Position) -> None:
        """Stop before the disk is full rather than when it is."""
        request, train = self.request, self.writers["train"].tokens
        written = train + (0 if request.validation is not None else self.writers["val"].tokens)
        room = None if request.max_train_tokens is None else request.max_train_tokens - train
        require_space(self.folder, request.files, position, written, room)

    def _encoded(self, batches: Iterator[DocumentBatch], prove: bool) -> Iterator[tuple[DocumentBatch, EncodedBatch]]:
        request = self.request
        return encoded_batches(batches, request.tokenizer, request.files.field, request.workers, prove)

    def _take(self, split: str, batch: DocumentBatch, encoded: EncodedBatch) -> bool:
        """Write a batch; False when there is enough training data."""
        if split == "val":
            self._remember(encoded.hashes)
            if has_sidecar(self.tokenizer):
                self.writers["val_bytes"].append(encoded.counts)
            self.totals["val"] = add_totals(self.totals["val"], encoded.totals)
            self.writers["val"].append(encoded.tokens)
            return True
        tokens, totals = self._without_overlap(batch, encoded)
        limit = self.request.max_train_tokens
        room = len(tokens) if limit is None else limit - self.writers["train"].tokens
        if room < len(tokens):
            tokens = tokens[:room]
            totals = {**totals, "documents": int((tokens == self.tokenizer.bos_id).sum())}
        self.totals["train"] = add_totals(self.totals["train"], totals)
        self.writers["train"].append(tokens)
        return limit is None or self.writers["train"].tokens < limit

    def _remember(self, hashes: list[bytes]) -> None:
        self.hashes.update(hashes)
        with open(self.folder / HASHES_NAME, "ab") as file:
            file.write(b"".join(hashes))
        self._hashes_written += len(hashes)

    def _without_overlap(self, batch: DocumentBatch, encoded: EncodedBatch) -> tuple[np.ndarray, dict[str, int]]:
        """Tokens and totals of a training batch, which must not hold a validation document."""
        shared = np.array([digest in self.hashes for digest in encoded.hashes])
        if not shared.any():
            return encoded.tokens, encoded.totals
        if not self.request.drop_overlap:
            number = batch.first + int(shared.argmax()) + 1
            raise UserError(
                f"{batch.path}, document {number}: a training document that is also in validation; "
                "type --drop-overlap to leave such documents out of training, or name other files"
            )
        self.dropped += int(shared.sum())
        kept = encoded.tokens[~np.repeat(shared, encoded.lengths)]
        return kept, {**encoded.totals, "documents": int((~shared).sum())}

    def _require_documents(self, split: str, limit: int | None) -> None:
        found = self.totals[split]["documents"]
        if not found and limit != 0 and split == "val":
            raise UserError(f"there is no document in {self.request.files.paths[0]}; name another file")
        if split == "val" and limit is not None and found < limit:
            raise UserError(
                f"there are {found:,} documents, fewer than --val-docs {limit}; type --val-docs {found // 20}"
            )
        if not found and split == "train":
            raise UserError("no document is left for training; type a smaller --val-docs")

    # -- the end ------------------------------------------------------------------------------------------------------
    def _finish(self) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for writer in self.writers.values():
            counts |= {writer.shard(index).name: length for index, length in enumerate(writer.lengths)}
        splits: dict[str, dict[str, Any]] = {}
        for split, totals in self.totals.items():
            splits[split] = {"tokens": self.writers[split].tokens, "token_bytes": totals["counted_bytes"], **totals}
        splits["val"]["exact"] = splits["val"]["inexact_documents"] == 0
        splits["train"] = {name: splits["train"][name] for name in ("tokens", "documents")}
        fields = {
            "name": self.folder.name,
            "made_by": "golf data retokenise",
            "settings": self.settings,
            "tokenizer": {
                "kind": self.tokenizer.kind,
                "vocab_size": self.tokenizer.vocab_size,
                "sha256": self.tokenizer.sha256,
            },
            "splits": splits,
            "disjoint": {"by": "blake2b-128 of the text, stripped", "shared_documents": 0, "dropped": self.dropped},
        }
        files = describe_files(self.folder, counts)
        kept = {name: entry for name, entry in files.items() if name not in (STATE_NAME, HASHES_NAME)}
        write_manifest(self.folder, {**fields, "files": kept})
        for name in (STATE_NAME, HASHES_NAME):
            (self.folder / name).unlink()
        return json.loads((self.folder / MANIFEST_NAME).read_text(encoding="utf-8"))


def retokenise(request: Request, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Make a dataset folder; returns its manifest.

    Raises:
        UserError: what is wrong with documents, tokenizer or folder; the same command goes on from there.
    """
    manifest_path = request.folder / MANIFEST_NAME
    if manifest_path.is_file():
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        if manifest.get("settings") == settings_of(request, open_tokenizer(request.tokenizer)):
            say(f"{request.folder} is complete already")
            return manifest
        raise UserError(f"{request.folder} holds another dataset; type --out <new folder>")
    return Retokeniser(request, say).run()
