"""`golf data download`: published shards in the official layout, resumable, parallel, every byte checked.

<folder>/datasets/<dataset>/fineweb_*.bin, <folder>/tokenizers/<file>, <folder>/manifest.json (the source's own). What
was fetched is written to manifest.json beside the shards: commit, sizes and sha256. That is the pin: the command with
the same folder, or with --pin <that file> elsewhere, demands exactly this content.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.data.manifest import MANIFEST_NAME, read_manifest, sha256_of_file, write_manifest
from golf.data.shards import shard_length
from golf.data.tokenizer import open_tokenizer
from golf.data_commands.hub import Hub, RemoteFile, content_digest
from golf.data_commands.official import tokenizer_sha256
from golf.errors import UserError, VerificationFailed

OFFICIAL_REPO = "willdepueoai/parameter-golf"
CASEOPS = "sp8192_lossless_caps_caseops_v1_reserved"
REPO_OF_VARIANT = {
    "sp1024": OFFICIAL_REPO,
    "byte260": OFFICIAL_REPO,
    "sp4096": "kevclark/parameter-golf",
    "sp8192": "kevclark/parameter-golf",
    CASEOPS: "romeerp/parameter-golf-caseops-v1",
}
ALIASES = {"caseops": CASEOPS, "bytes": "byte260"}
REMOTE_ROOT = "datasets"
DOCUMENT_FILES = ("docs_selected.jsonl", "docs_selected.source_manifest.json")
TOKENIZER_SUFFIXES = (".model", ".json", ".tiktoken")
SPARE_BYTES = 1 << 28
LISTED_VARIANTS = 8
SHA256_LENGTH = 64


@dataclass(frozen=True)
class Order:
    """What is asked for. `pin`: a manifest of an earlier download, whose commit and hashes are demanded."""

    variant: str
    train_shards: int
    folder: Path
    repo: str | None = None
    root: str | None = None
    revision: str = "main"
    pin: Path | None = None
    update: bool = False
    with_docs: bool = False
    workers: int = 4


class Download:
    """One run of `golf data download`."""

    def __init__(self, order: Order, say: Callable[[str], None]) -> None:
        self.order, self.say = order, say
        self.variant = ALIASES.get(order.variant, order.variant)
        self.dataset = f"fineweb10B_{self.variant}"
        self.folder = order.folder / "datasets" / self.dataset
        self.repo = order.repo or os.environ.get("MATCHED_FINEWEB_REPO_ID") or REPO_OF_VARIANT.get(self.variant, "")
        if not self.repo:
            known = ", ".join([*REPO_OF_VARIANT, *ALIASES])
            raise UserError(f"--variant {order.variant}: not published; known are {known}; or type --repo <owner/name>")
        usual = os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", REMOTE_ROOT)
        self.root = (usual if order.root is None else order.root).strip("/")
        if order.train_shards < 0 or order.workers < 1:
            raise UserError("--train-shards is at least 0 and --workers at least 1")
        self.pinned = self._pin()
        self.hub = Hub(self.repo, (self.pinned or {}).get("commit") or order.revision)

    def run(self) -> dict[str, Any]:
        """Fetch what is missing; returns the manifest that pins it."""
        entry, tokenizers = self._catalogue()
        wanted = self._wanted(entry, tokenizers)
        remote = self.hub.describe(list(wanted))
        missing = [path for path in wanted if path not in remote]
        if missing:
            raise UserError(f"{self.repo} at {self.hub.commit[:12]} does not hold {missing[0]} (404); type --update")
        for path, file in remote.items():
            require_digest(path, self._expected(wanted[path]), file.digest)
        todo = {path: wanted[path] for path in wanted if not self._is_there(remote[path], wanted[path])}
        self._require_space([remote[path] for path in todo], list(todo.values()))
        self._fetch_all({path: remote[path] for path in todo}, todo)
        return self._write_pin(wanted, remote)

    # -- what to fetch ----------------------------------------------------------------------------------------------
    def _pin(self) -> dict[str, Any] | None:
        """The manifest that decides commit and hashes, if there is one."""
        path = self.order.pin
        if path is not None:
            manifest = read_manifest(path.parent) if path.name == MANIFEST_NAME else None
            if manifest is None or "commit" not in manifest:
                raise UserError(f"--pin {path} is no {MANIFEST_NAME} of golf data download; name one")
            return manifest
        manifest = None if self.order.update else read_manifest(self.folder)
        return manifest if manifest and manifest.get("repo") == self.repo and "commit" in manifest else None

    def _remote(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root else path

    def _catalogue(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The source's manifest: the entry of this dataset and all tokenizers."""
        path, target = self._remote(MANIFEST_NAME), self.order.folder / MANIFEST_NAME
        remote = self.hub.describe([path])
        if path not in remote:
            raise UserError(f"{self.repo} has no {path} (404); type --repo <owner/name> or --root <folder in it>")
        if not self._is_there(remote[path], target):
            self.hub.fetch(remote[path], target)
        try:
            content = json.loads(target.read_text(encoding="utf-8"))
            entries = {entry["name"]: entry for entry in content["datasets"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{target} of {self.repo} is not a dataset manifest; type --repo <owner/name>") from None
        if self.dataset not in entries:
            there = ", ".join(name.removeprefix("fineweb10B_") for name in list(entries)[:LISTED_VARIANTS])
            raise UserError(f"--variant {self.order.variant}: {self.repo} has {there}; type --variant <one of them>")
        return entries[self.dataset], content.get("tokenizers", [])

    def _wanted(self, entry: dict[str, Any], tokenizers: list[dict[str, Any]]) -> dict[str, Path]:
        """Path in the repository -> path here."""
        stats, order = entry["stats"], self.order
        if order.train_shards > stats["files_train"]:
            raise UserError(
                f"--train-shards {order.train_shards}: {self.dataset} has {stats['files_train']}; "
                f"type --train-shards {stats['files_train']} or less"
            )
        names = [f"fineweb_val_{i:06d}.bin" for i in range(stats["files_val"])]
        if entry.get("val_bytes_glob"):
            names += [f"fineweb_val_bytes_{i:06d}.bin" for i in range(stats["files_val"])]
        names += [f"fineweb_train_{i:06d}.bin" for i in range(order.train_shards)]
        place = entry.get("path", f"datasets/{self.dataset}")
        wanted = {self._remote(f"{place}/{name}"): self.folder / name for name in names}
        used = next((t for t in tokenizers if t.get("name") == entry.get("tokenizer_name")), None)
        if used is None or not (used.get("model_path") or used.get("path")):
            raise UserError(f"{self.repo} names no tokenizer for {self.dataset}; type --repo <owner/name>")
        for key in ("model_path", "vocab_path", "path"):
            if used.get(key):
                wanted[self._remote(used[key])] = self._inside(used[key])
        for name in DOCUMENT_FILES if order.with_docs else ():
            wanted[self._remote(name)] = self._inside(name)
        return wanted

    def _inside(self, relative: str) -> Path:
        """A path of the manifest in our folder; one that leads out of it is refused."""
        target = (self.order.folder / relative).resolve()
        if not target.is_relative_to(self.order.folder.resolve()):
            raise UserError(f"the manifest of {self.repo} names {relative}, outside of its folder; use another --repo")
        return self.order.folder / relative

    # -- fetching ---------------------------------------------------------------------------------------------------
    def _expected(self, target: Path) -> str | None:
        """The sha256 that a file must have: that of the pin, or of a published tokenizer."""
        pinned = self.pinned or {}
        if target.parent == self.folder:
            return pinned.get("files", {}).get(target.name, {}).get("sha256")
        known = tokenizer_sha256(target.name) if self.repo == REPO_OF_VARIANT.get(self.variant) else None
        is_tokenizer = target.suffix in TOKENIZER_SUFFIXES and target.parent.name == "tokenizers"
        return known or (pinned.get("tokenizer", {}).get("sha256") if is_tokenizer else None)

    def _is_there(self, remote: RemoteFile, target: Path) -> bool:
        """Whether a file is here with its content; one with another content is fetched again."""
        if not target.is_file():
            return False
        if target.stat().st_size == remote.bytes and content_digest(target, remote) == remote.digest:
            return True
        self.say(f"{target} is not what {self.repo} has: fetching it again")
        return False

    def _require_space(self, files: list[RemoteFile], targets: list[Path]) -> None:
        self.order.folder.mkdir(parents=True, exist_ok=True)
        parts = [target.with_name(f"{target.name}.part") for target in targets]
        there = sum(part.stat().st_size for part in parts if part.is_file())
        needed, free = sum(file.bytes for file in files) - there, shutil.disk_usage(self.order.folder).free
        if needed + SPARE_BYTES > free:
            raise UserError(
                f"{needed / 1e9:.2f} GB to fetch, {free / 1e9:.2f} GB free in {self.order.folder}; "
                "type a smaller --train-shards, or another --folder"
            )

    def _fetch_all(self, files: dict[str, RemoteFile], targets: dict[str, Path]) -> None:
        """Several files at a time; the first failure, or Ctrl-C, ends them all."""
        with ThreadPoolExecutor(self.order.workers) as pool:
            under_way = {pool.submit(self.hub.fetch, file, targets[path]): path for path, file in files.items()}
            try:
                for done, future in enumerate(as_completed(under_way), 1):
                    future.result()
                    path = under_way[future]
                    self.say(f"{done} of {len(files)}: {targets[path].name}, {files[path].bytes / 1e6:.1f} MB")
            except BaseException:
                self.hub.stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _write_pin(self, wanted: dict[str, Path], remote: dict[str, RemoteFile]) -> dict[str, Any]:
        """manifest.json beside the shards; the tokenizer's content is compared with what is known of it."""
        files: dict[str, dict[str, Any]] = {}
        identity: dict[str, Any] = {}
        for path, target in wanted.items():
            if target.parent == self.folder:
                digest = remote[path].digest
                sha256 = digest if len(digest) == SHA256_LENGTH else sha256_of_file(target)
                files[target.name] = {"bytes": remote[path].bytes, "sha256": sha256, "tokens": shard_length(target)}
            elif target.suffix in TOKENIZER_SUFFIXES and target.parent.name == "tokenizers":
                tokenizer = open_tokenizer(target)
                require_digest(path, self._expected(target), tokenizer.sha256)
                identity = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
        fields = {"name": self.dataset, "made_by": "golf data download", "repo": self.repo, "tokenizer": identity}
        write_manifest(self.folder, {**fields, "commit": self.hub.commit, "files": files})
        self.say(f"{self.folder}: {len(files)} shards of {self.repo} at {self.hub.commit[:12]}, all with their hashes")
        return json.loads((self.folder / MANIFEST_NAME).read_text(encoding="utf-8"))


def require_digest(path: str, expected: str | None, found: str) -> None:
    """VerificationFailed if two hashes of one kind differ."""
    if expected and len(found) == len(expected) and found != expected:
        raise VerificationFailed(
            f"{path}: expected sha256 {expected[:16]}…, the hub has {found[:16]}…; type --update for newer content"
        )


def download(order: Order, say: Callable[[str], None]) -> dict[str, Any]:
    """Fetch a variant; returns the manifest that pins it.

    Raises:
        UserError: an unknown variant, a file that is not there, no network, no space: the same command goes on.
        VerificationFailed: content that is not the expected one.
    """
    return Download(order, say).run()
