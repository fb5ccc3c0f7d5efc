"""Whether the validation shards on disk are those that they should be: checked before anything is scored.

Three witnesses: the manifest of the folder, what a run wrote down of its data (data.json), and the text itself, which
decodes and encodes to the same ids only with the tokenizer that it was cut with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from golf.data.manifest import read_manifest
from golf.data.shards import SIDECAR_PREFIX, read_shard, shard_length
from golf.errors import UserError
from golf.files import sha256_of

PEEKED_TOKENS = 2_000_000
LEAST_ROUND_TRIPS = 0.5  # of the documents: with another tokenizer it is nearly none, with the right one nearly all


def require_split_of_tokenizer(prepared: Any, tokenizer: Any) -> None:
    """UserError if documents, decoded and encoded again, are other ids: the bytes of every score would be wrong."""
    from golf.data_commands.readings import round_trips

    path = prepared.val_paths[0]
    same, tried = round_trips(tokenizer, np.asarray(read_shard(path)[:PEEKED_TOKENS]))
    if tried and same < LEAST_ROUND_TRIPS * tried:
        raise UserError(
            f"{path} was cut with another tokenizer than {prepared.tokenizer_path}: {same} of {tried} documents give "
            "their own ids when decoded and encoded, expected nearly all; name its own with tokenizer_file=<file> "
            "(train.py: tokenizer.path=<file>)"
        )


def other_split(prepared: Any, identity: dict[str, Any]) -> str:
    """What differs between validation shards and those of a run's data.json; "" where they are the same."""
    expected: dict[str, str] = identity.get("val_sha256") or {}
    found = {Path(path).name: path for path in prepared.val_paths}
    if expected and sorted(found) != sorted(expected):
        return f"{prepared.folder} has {', '.join(sorted(found))}, the run had {', '.join(sorted(expected))}"
    for name, sha256 in expected.items():
        if (now := sha256_of(Path(found[name]))) != sha256:
            return (
                f"{found[name]} ({shard_length(found[name]):,} tokens, sha256 {now[:12]}…) is not the validation split "
                f"of the run (sha256 {sha256[:12]}…)"
            )
    return ""


def require_split_of_run(prepared: Any, identity: dict[str, Any]) -> None:
    """UserError if the validation shards were cut short, reordered or replaced since a run was made with them."""
    if difference := other_split(prepared, identity):
        raise UserError(
            f"{difference}: it was cut short, reordered or replaced since; restore it, or score other data with "
            f"python evaluate.py … data_folder={prepared.folder}"
        )


def require_split_of_manifest(prepared: Any) -> None:
    """Refuse validation shards that are not those of the folder's manifest, where golf wrote one.

    Raises:
        UserError: a shard is missing, was added, is shorter, or holds other tokens (reordered ones, too).
    """
    manifest = read_manifest(prepared.folder)
    if manifest is None:
        return
    shards = {name: entry for name, entry in manifest["files"].items() if name.startswith("fineweb_val_")}
    listed = {name: entry for name, entry in shards.items() if not name.startswith(SIDECAR_PREFIX)}
    found = {Path(path).name: path for path in prepared.val_paths}
    remedy = "restore it, or score other data with data_folder=<folder>"
    if sorted(found) != sorted(listed):
        raise UserError(
            f"validation of {prepared.folder}: its manifest has {', '.join(sorted(listed)) or 'no shard'}, the folder "
            f"{', '.join(sorted(found))}; {remedy}"
        )
    for name, path in found.items():
        length = shard_length(path)
        if length != listed[name]["tokens"]:
            raise UserError(f"{path} has {length:,} tokens, its manifest says {listed[name]['tokens']:,}; {remedy}")
        sha256 = sha256_of(Path(path))
        if sha256 != listed[name]["sha256"]:
            raise UserError(
                f"{path} holds other tokens (or another order) than when the data was made: sha256 {sha256[:12]}…, its "
                f"manifest says {listed[name]['sha256'][:12]}…; {remedy}"
            )
