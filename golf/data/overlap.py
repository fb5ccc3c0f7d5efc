"""Does the training data contain validation data? A cheap check with a stated reach.

1. Files: the same file twice (device and inode, or equal content).
2. Documents (split at BOS, at least 32 tokens long): every validation document is hashed and compared with the
   documents of the training shards; large sets are sampled at evenly spaced places of every shard.
Web corpora hold honest duplicates, so single hits are reported, not refused. Refused: 1 % of the validation
documents found in training, or 5 % (and three) of the documents at one sampled place.
"""

import filecmp
import hashlib
import os
from dataclasses import dataclass

import numpy as np

from golf.data.shards import read_shard
from golf.errors import UserError

MIN_DOCUMENT_TOKENS = 32
SAMPLED_TRAIN_TOKENS = 32_000_000
PLACES_PER_SHARD = 4
MAX_SHARED_VALIDATION = 0.01
MAX_SHARED_AT_PLACE = 0.05
MIN_SHARED_AT_PLACE = 3
OVERLAP_REMEDY = "remove the validation data from data.folder, or name another dataset with data.folder=<folder>"


@dataclass(frozen=True)
class OverlapReport:
    """What was compared and found; `complete` means that no training token was left out."""

    train_documents: int
    validation_documents: int
    shared_documents: int
    complete: bool

    def __str__(self) -> str:
        reach = "all" if self.complete else "a sample of"
        if not self.validation_documents:
            return "overlap check: files only (no document boundaries found)"
        return (
            f"overlap check: {self.shared_documents} of {self.validation_documents} validation documents found in "
            f"{reach} {self.train_documents} training documents"
        )


def check_overlap(
    train_paths: list[str], val_paths: list[str], bos_id: int, sampled_tokens: int = SAMPLED_TRAIN_TOKENS
) -> OverlapReport:
    """Compare the splits; UserError if training holds validation data, else what was checked."""
    _refuse_shared_files(train_paths, val_paths)
    validation: set[bytes] = set()
    for path in val_paths:
        validation.update(document_hashes(np.asarray(read_shard(path)), bos_id))
    if not validation:
        return OverlapReport(0, 0, 0, complete=False)
    seen, found, complete = 0, set(), True
    per_shard = max(1, sampled_tokens // len(train_paths))
    for path in train_paths:
        tokens = np.asarray(read_shard(path))
        places = _sampled_places(len(tokens), per_shard)
        complete = complete and places == [(0, len(tokens))]
        for first, last in places:
            hashes = document_hashes(tokens[first:last], bos_id)
            hits = [digest for digest in hashes if digest in validation]
            if len(hits) >= MIN_SHARED_AT_PLACE and len(hits) > MAX_SHARED_AT_PLACE * len(hashes):
                raise UserError(
                    f"training overlaps validation: {len(hits)} of {len(hashes)} documents at tokens {first} to {last} "
                    f"of {path} are validation documents; {OVERLAP_REMEDY}"
                )
            seen += len(hashes)
            found.update(hits)
    if len(found) >= max(1, MAX_SHARED_VALIDATION * len(validation)):
        raise UserError(
            f"training overlaps validation: {len(found)} of {len(validation)} validation documents are among "
            f"{seen} training documents looked at; {OVERLAP_REMEDY}"
        )
    return OverlapReport(seen, len(validation), len(found), complete)


def document_hashes(tokens: np.ndarray, bos_id: int) -> list[bytes]:
    """Hashes of the documents that begin in `tokens` [N] (the last runs to the end), short ones left out."""
    starts = np.flatnonzero(tokens == bos_id)
    ends = np.append(starts[1:], len(tokens))
    long_enough = ends - starts > MIN_DOCUMENT_TOKENS
    return [
        hashlib.blake2b(tokens[first:last].tobytes(), digest_size=16).digest()
        for first, last in zip(starts[long_enough].tolist(), ends[long_enough].tolist())
    ]


def _refuse_shared_files(train_paths: list[str], val_paths: list[str]) -> None:
    identity = {(stat.st_dev, stat.st_ino): path for path in val_paths for stat in [os.stat(path)]}
    sizes: dict[int, list[str]] = {}
    for path in val_paths:
        sizes.setdefault(os.path.getsize(path), []).append(path)
    for path in train_paths:
        stat = os.stat(path)
        same = identity.get((stat.st_dev, stat.st_ino))
        twins = [other for other in sizes.get(stat.st_size, []) if filecmp.cmp(path, other, shallow=False)]
        if same or twins:
            raise UserError(f"training shard {path} is the validation shard {same or twins[0]}; {OVERLAP_REMEDY}")


def _sampled_places(num_tokens: int, budget: int) -> list[tuple[int, int]]:
    if num_tokens <= budget:
        return [(0, num_tokens)]
    length = max(1, budget // PLACES_PER_SHARD)
    firsts = np.linspace(0, num_tokens - length, PLACES_PER_SHARD).astype(int)
    return [(int(first), int(first) + length) for first in firsts]
