"""`golf data verify <folder>`: is this folder of shards what it says it is? For folders of golf and of others.

Every check is one finding: passed, failed, or not testable with what is there; nothing is assumed. One pass over the
validation split, one over the training shards; memory is one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golf.data.accounting import has_sidecar
from golf.data.manifest import MANIFEST_NAME, read_manifest, sha256_of_file
from golf.data.overlap import check_overlap
from golf.data.shards import TRAIN_PATTERN, Shards, read_shard, shard_length, train_shards, validation_shards
from golf.data.sidecar import byte_counter, sidecar_fault, sidecar_path
from golf.data.tokenizer import load_tokenizer
from golf.data_commands.official import (
    DOCUMENTS,
    PREFIX_TOKENS,
    SCORED_MULTIPLE,
    SPLIT_BYTES,
    SPLIT_TOLERANCE,
    official_tokenizer,
    token_sha256,
)
from golf.data_commands.readings import BLOCK_TOKENS, blocks, count_block, official_entry, round_trips
from golf.errors import UserError

PASSED, FAILED, UNKNOWN = "passed", "failed", "not testable"
MIN_ROUND_TRIPS = 0.9


@dataclass(frozen=True)
class Finding:
    """One check: what was expected and what was found are in `detail`."""

    check: str
    status: str
    detail: str


class Verification:
    """The checks of one folder, in the order in which they make sense: the first fault of a kind stops the rest."""

    def __init__(self, folder: Path, tokenizer: str = "auto", full: bool = False) -> None:
        self.folder, self.full = folder, full
        self.val_paths = validation_shards(folder)
        self.train_paths = train_shards(folder) if any(folder.glob(TRAIN_PATTERN)) else []
        self.tokenizer: Any = load_tokenizer(tokenizer, folder=folder)
        self.official = official_tokenizer(self.tokenizer.sha256, self.tokenizer.kind)
        self.manifest = read_manifest(folder)
        self.documents = {"val": 0, "train": 0}
        self.tokens = {"val": 0, "train": 0}
        self.bytes = 0

    def findings(self) -> Iterator[Finding]:
        checks: tuple[Callable[[], Iterator[Finding]], ...] = (
            self._headers,
            self._ids,
            self._manifest,
            self._tokenizer,
            self._bytes,
            self._split,
            self._disjoint,
        )
        for check in checks:
            stopped = False
            try:
                for finding in check():
                    yield finding
                    stopped = stopped or finding.status == FAILED
            except UserError as error:
                yield Finding(check.__name__.strip("_"), FAILED, str(error))
                stopped = True
            if stopped and check in (self._headers, self._ids):
                return

    def _headers(self) -> Iterator[Finding]:
        for split, paths in (("val", self.val_paths), ("train", self.train_paths)):
            self.tokens[split] = sum(shard_length(path) for path in paths)
            numbers = [int(Path(path).stem.rpartition("_")[2]) for path in paths]
            if numbers != list(range(len(numbers))):
                missing = sorted(set(range(max(numbers))) - set(numbers))[:3]
                yield Finding("headers", FAILED, f"{split} shards are not numbered 0, 1, 2 …: {missing} missing")
        counts = f"{len(self.val_paths)} + {len(self.train_paths)} shards"
        yield Finding("headers", PASSED, f"{counts}, {self.tokens['val']:,} + {self.tokens['train']:,} tokens")

    def _ids(self) -> Iterator[Finding]:
        largest = 0
        for split, paths in (("val", self.val_paths), ("train", self.train_paths)):
            for path in paths:
                for block in blocks(path):
                    largest = max(largest, int(block.max()))
                    self.documents[split] += int((block == self.tokenizer.bos_id).sum())
                    if largest >= self.tokenizer.vocab_size:
                        detail = f"{path} holds id {largest}, the tokenizer has {self.tokenizer.vocab_size} ids"
                        yield Finding("ids", FAILED, detail)
                        return
        if self.documents["val"] and int(read_shard(self.val_paths[0])[0]) != self.tokenizer.bos_id:
            yield Finding("ids", FAILED, "validation does not begin with a BOS: it is cut, or in another order")
            return
        yield Finding("ids", PASSED, f"0 to {largest}, vocabulary of {self.tokenizer.vocab_size}")

    def _manifest(self) -> Iterator[Finding]:
        if self.manifest is not None:
            yield from self._own_manifest(self.manifest)
        official = official_entry(self.folder)
        if official is not None:
            yield from self._official_manifest(official)
        if self.manifest is None and official is None:
            yield Finding("manifest", UNKNOWN, f"no {MANIFEST_NAME}: sizes and hashes cannot be compared")

    def _own_manifest(self, manifest: dict[str, Any]) -> Iterator[Finding]:
        for name, entry in manifest["files"].items():
            path = self.folder / name
            found = sha256_of_file(path) if path.is_file() else "no such file"
            if found != entry["sha256"]:
                yield Finding("hashes", FAILED, f"{name}: expected sha256 {entry['sha256'][:16]}…, found {found[:16]}")
                return
        extra = sorted({Path(p).name for p in (*self.val_paths, *self.train_paths)} - set(manifest["files"]))
        if extra:
            yield Finding("hashes", FAILED, f"{extra[0]} is not in the manifest")
            return
        yield Finding("hashes", PASSED, f"{len(manifest['files'])} files as in {MANIFEST_NAME}")

    def _official_manifest(self, entry: dict[str, Any]) -> Iterator[Finding]:
        stats = entry.get("stats", {})
        whole = len(self.train_paths) == stats.get("files_train")
        found = {
            "files_val": len(self.val_paths),
            "tokens_val": self.tokens["val"],
            "docs_val": self.documents["val"],
            **({"tokens_train": self.tokens["train"], "docs_train": self.documents["train"]} if whole else {}),
        }
        wrong = [f"{key}: expected {stats[key]:,}, found {n:,}" for key, n in found.items() if stats.get(key, n) != n]
        detail = wrong[0] if wrong else f"counts of {entry['name']}, {len(self.train_paths)} training shards"
        yield Finding("manifest", FAILED if wrong else PASSED, detail)

    def _tokenizer(self) -> Iterator[Finding]:
        made_with = ((self.manifest or {}).get("tokenizer") or {}).get("sha256", self.tokenizer.sha256)
        if made_with != self.tokenizer.sha256:
            detail = f"shards were made with {made_with[:16]}…, {self.tokenizer.path} is {self.tokenizer.sha256[:16]}…"
            yield Finding("tokenizer", FAILED, detail)
            return
        name = self.official.name if self.official else f"not an official one ({self.tokenizer.sha256[:12]}…)"
        same, tried = round_trips(self.tokenizer, np.asarray(read_shard(self.val_paths[0])))
        if not tried:
            yield Finding("tokenizer", UNKNOWN, f"{name}; no document to decode and encode again")
            return
        detail = f"{name}; {same} of {tried} documents give their ids again when decoded and encoded"
        yield Finding("tokenizer", PASSED if same >= MIN_ROUND_TRIPS * tried else FAILED, detail)

    def _bytes(self) -> Iterator[Finding]:
        counter = byte_counter(self.tokenizer, self.val_paths)
        stream = Shards(self.val_paths)
        scored = (len(stream) - 1) // SCORED_MULTIPLE * SCORED_MULTIPLE
        sums = np.zeros(2, dtype=np.int64)
        for first in range(1, len(stream), BLOCK_TOKENS):
            counts = count_block(counter, stream, first, min(first + BLOCK_TOKENS, len(stream)))
            sums += counts.sum(), counts[: max(scored + 1 - first, 0)].sum()
        self.bytes = int(sums[0])
        if has_sidecar(self.tokenizer):
            yield self._sidecar()
        ratio = self.bytes / max(len(stream) - 1, 1)
        uniform = math.log2(self.tokenizer.vocab_size) / ratio if ratio else math.nan
        detail = f"{self.bytes:,} bytes, {ratio:.4f} per token; an untrained model scores about {uniform:.4f} BPB"
        known = self.official
        if known is not None and scored == known.targets:
            expected = f"{int(sums[1]):,} in the {scored:,} scored targets, expected {known.bytes:,}"
            yield Finding("bytes", PASSED if int(sums[1]) == known.bytes else FAILED, f"{detail}; {expected}")
            return
        if known is not None:
            detail += f" (whole split: {known.bytes_per_token:.4f} per token)"
        yield Finding("bytes", PASSED if self.bytes else FAILED, detail)

    def _sidecar(self) -> Finding:
        table = self.tokenizer.byte_table()
        for path in self.val_paths:
            counts, tokens = read_shard(sidecar_path(path)), read_shard(path)
            for first in range(0, len(tokens), BLOCK_TOKENS):
                span = slice(first, first + BLOCK_TOKENS)
                fault = sidecar_fault(np.asarray(tokens[span]), np.asarray(counts[span]), table, self.tokenizer.bos_id)
                if fault:
                    return Finding("sidecar", FAILED, f"{sidecar_path(path).name} from token {first}: {fault}")
        return Finding("sidecar", PASSED, "a count for every token, 0 for every BOS, lengths fit the pieces")

    def _split(self) -> Iterator[Finding]:
        found = self.documents["val"]
        if found != DOCUMENTS:
            detail = f"{found:,} documents of the official {DOCUMENTS:,}: scores on them are no leaderboard scores"
            yield Finding("split", FAILED if self.full else UNKNOWN, detail)
        else:
            off = abs(self.bytes - SPLIT_BYTES) / SPLIT_BYTES
            detail = (
                f"{DOCUMENTS:,} documents, {self.bytes:,} bytes, expected {SPLIT_BYTES:,} (± {SPLIT_TOLERANCE:.2%})"
            )
            yield Finding("split", PASSED if off <= SPLIT_TOLERANCE else FAILED, detail)
        if self.official is not None and self.official.prefix and self.tokens["val"] >= PREFIX_TOKENS:
            same = token_sha256(Shards(self.val_paths).take(0, PREFIX_TOKENS)) == self.official.prefix
            detail = f"the first {PREFIX_TOKENS:,} tokens are {'' if same else 'not '}those of the official split"
            claimed = self.full or found == DOCUMENTS
            yield Finding("order", PASSED if same else FAILED if claimed else UNKNOWN, detail)

    def _disjoint(self) -> Iterator[Finding]:
        if not self.train_paths:
            yield Finding("disjoint", UNKNOWN, "no training shards")
            return
        everything = max(self.tokens["train"], 1) * len(self.train_paths)
        report = check_overlap(self.train_paths, self.val_paths, self.tokenizer.bos_id, everything)
        if not report.validation_documents:
            yield Finding("disjoint", UNKNOWN, str(report))
            return
        yield Finding(
            "disjoint", FAILED if report.shared_documents else PASSED, str(report).removeprefix("overlap check: ")
        )


def verify(folder: Path, tokenizer: str, full: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Say every finding as it is made; `error` is the first that failed, "" if none did."""
    findings: list[Finding] = []
    for finding in Verification(folder, tokenizer, full).findings():
        findings.append(finding)
        say(f"{finding.status.ljust(12)} {finding.check.ljust(10)} {finding.detail}")
    failed = [f"{folder}: {finding.check}: {finding.detail}" for finding in findings if finding.status == FAILED]
    return {
        "folder": str(folder),
        "error": failed[0] if failed else "",
        "findings": [asdict(finding) for finding in findings],
    }
