"""Whether the validation shards on disk are those that a dataset was made with: checked before anything is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golf.data.manifest import read_manifest
from golf.data.shards import SIDECAR_PREFIX, shard_length
from golf.errors import UserError
from golf.files import sha256_of


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
