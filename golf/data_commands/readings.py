"""What `golf data verify` reads off shards: blocks, bytes, round trips through the tokenizer, the official manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from golf.data.manifest import MANIFEST_NAME
from golf.data.shards import Shards, read_shard
from golf.data.sidecar import ByteSidecar

BLOCK_TOKENS = 1 << 22
ROUND_TRIPS = 64


def blocks(path: str) -> Iterator[np.ndarray]:
    """The tokens of a shard, a block at a time."""
    tokens = read_shard(path)
    for first in range(0, len(tokens), BLOCK_TOKENS):
        yield np.asarray(tokens[first : first + BLOCK_TOKENS])


def count_block(counter: Any, stream: Shards, begin: int, end: int) -> np.ndarray:
    """Bytes of tokens begin … end−1 of the validation stream; the table may look back two tokens more."""
    if isinstance(counter, ByteSidecar):
        return counter.bytes_of(begin, end).astype(np.int64)
    first = max(begin - 3, 0)
    tokens = stream.take(first, end - first)
    return counter.count_stream(tokens)[begin - first - 1 :]


def round_trips(tokenizer: Any, tokens: np.ndarray) -> tuple[int, int]:
    """(documents, spread over a shard, that decode and encode to the same ids, documents tried)."""
    starts = np.flatnonzero(tokens == tokenizer.bos_id)
    if tokenizer.kind == "synthetic" or len(starts) < 2:
        return 0, 0
    chosen = np.unique(np.linspace(0, len(starts) - 2, min(ROUND_TRIPS, len(starts) - 1)).astype(int))
    same = 0
    for number in chosen.tolist():
        ids = tokens[starts[number] + 1 : starts[number + 1]].tolist()
        same += tokenizer.encode(tokenizer.decode(ids)) == ids
    return same, len(chosen)


def official_entry(folder: Path) -> dict[str, Any] | None:
    """This dataset in the official manifest two folders up, if there is one."""
    path = folder.resolve().parent.parent / MANIFEST_NAME
    try:
        datasets = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        return next((entry for entry in datasets if entry["name"] == folder.resolve().name), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
