"""manifest.json of a dataset folder: what the data is, whose it is, and how to recognise it.

Written last and never changed: a folder with a manifest is complete. `files` lists every file with its size, its
sha256 and, for shards, its tokens; `source`, `licence` and `attribution` say where the text comes from.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.errors import UserError, VerificationFailed

MANIFEST_NAME = "manifest.json"
MANIFEST_SCHEMA = 1
HASH_BLOCK_BYTES = 1 << 20


def sha256_of_file(path: str | Path) -> str:
    """sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe_files(folder: str | Path, tokens: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Bytes, sha256 and (where given by name) tokens of every file in the folder."""
    files = {}
    for path in sorted(Path(folder).iterdir()):
        if path.name != MANIFEST_NAME and path.is_file():
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
            if path.name in tokens:
                files[path.name]["tokens"] = tokens[path.name]
    return files


def write_manifest(folder: str | Path, fields: dict[str, Any]) -> None:
    """Write the manifest of a finished folder."""
    content = json.dumps({"schema": MANIFEST_SCHEMA, **fields}, indent=1, ensure_ascii=False)
    path = Path(folder) / MANIFEST_NAME
    partial = path.with_name(f".{MANIFEST_NAME}.part")
    partial.write_text(content + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """The manifest of a dataset folder, or None if it has none (foreign shards need none)."""
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete the folder {folder} to make it again") from None
    return manifest if isinstance(manifest, dict) and manifest.get("schema") == MANIFEST_SCHEMA else None


def is_complete(folder: str | Path) -> bool:
    """Whether the folder has a manifest and every file that it lists, at its size (no hashing: instantaneous)."""
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    paths = {Path(folder) / name: entry["bytes"] for name, entry in manifest["files"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def data_identity(folder: str | Path, val_paths: Sequence[str], train_paths: Sequence[str]) -> dict[str, Any]:
    """What a run writes down of its data, to be compared years later: the manifest's sha256 (golf's in the folder, else
    the official one two folders up, else None), the validation shards' content, and how much there was to train on."""
    candidates = (Path(folder) / MANIFEST_NAME, Path(folder).resolve().parent.parent / MANIFEST_NAME)
    manifest = next((path for path in candidates if path.is_file()), None)
    return {
        "manifest_sha256": sha256_of_file(manifest) if manifest else None,
        "val_sha256": {Path(path).name: sha256_of_file(path) for path in val_paths},
        "train_shards": len(train_paths),
        "train_bytes": sum(Path(path).stat().st_size for path in train_paths),
    }


def verify_manifest(folder: str | Path) -> dict[str, Any]:
    """Hash every file of the folder against its manifest; VerificationFailed names the first that differs."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder} has no {MANIFEST_NAME} written by golf; there is nothing to verify it against")
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        if not path.is_file() or sha256_of_file(path) != entry["sha256"]:
            raise VerificationFailed(
                f"{path} is not the file of the manifest; delete the folder {folder} to make it again"
            )
    return manifest
