"""Files of a Hugging Face dataset repository: what a commit holds, and one file at a time, resumable, checked.

The client is huggingface_hub's own (endpoint, token, retries, proxies as everywhere); HF_ENDPOINT is honoured. A file
grows as <name>.part and gets its name when its content has the expected hash: so partial files never look complete.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from golf.errors import GolfError, UserError, VerificationFailed

BLOCK_BYTES = 1 << 20
PATHS_PER_QUESTION = 500
GIT_HASH_LENGTH = 40


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit. `digest`: its sha256, or git's blob hash for the small files that git holds itself."""

    path: str
    bytes: int
    digest: str


class Hub:
    """One repository at one commit."""

    def __init__(self, repo: str, revision: str = "main") -> None:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import disable_progress_bars, logging
        except ImportError:
            raise UserError("downloading needs huggingface_hub; type pip install 'golf[data]'") from None
        disable_progress_bars()
        logging.set_verbosity_error()  # its retries are not errors
        self.repo, self.stopped = repo, threading.Event()
        self.endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        self.api: Any = HfApi(endpoint=self.endpoint)
        self.commit = str(self._ask("", lambda: self.api.dataset_info(repo, revision=revision).sha))

    def describe(self, paths: Sequence[str]) -> dict[str, RemoteFile]:
        """Size and hash of those of the paths that exist."""
        found: dict[str, RemoteFile] = {}
        for first in range(0, len(paths), PATHS_PER_QUESTION):
            asked = list(paths[first : first + PATHS_PER_QUESTION])
            answer = self._ask("", lambda asked=asked: self._paths_info(asked))
            for entry in answer:
                if hasattr(entry, "blob_id"):
                    digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
                    found[entry.path] = RemoteFile(entry.path, int(entry.size), str(digest))
        return found

    def _paths_info(self, paths: list[str]) -> Any:
        return self.api.get_paths_info(self.repo, paths, revision=self.commit, repo_type="dataset")

    def fetch(self, remote: RemoteFile, target: Path) -> None:
        """Download a file to `target`, going on where an earlier attempt stopped.

        Raises:
            VerificationFailed: what came is not what was promised (and is deleted).
        """
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.is_file() and part.stat().st_size > remote.bytes:
            part.unlink()
        self._ask(remote.path, lambda: self._append(remote, part))
        found = content_digest(part, remote)
        if found != remote.digest:
            part.unlink()
            raise VerificationFailed(
                f"{remote.path}: expected hash {remote.digest[:16]}…, found {found[:16]}…; it is deleted: type it again"
            )
        os.replace(part, target)

    def _append(self, remote: RemoteFile, part: Path) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repo, remote.path, repo_type="dataset", revision=self.commit, endpoint=self.endpoint)
        with open(part, "ab") as file:
            done = file.tell()
            if done < remote.bytes:
                target: Any = StoppableFile(file, self.stopped)
                http_get(url, target, resume_size=done, headers=build_hf_headers(), expected_size=remote.bytes)

    def _ask(self, path: str, question: Callable[[], Any]) -> Any:
        """The answer; whatever goes wrong on the way becomes one line."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        where = f"{self.endpoint or 'the hub'}: {self.repo}"
        try:
            return question()
        except GolfError:
            raise
        except RepositoryNotFoundError:
            raise UserError(f"{where}: no such dataset (or no access); type --repo <owner/name>") from None
        except RevisionNotFoundError:
            raise UserError(f"{where} has no such revision; type --revision main") from None
        except EntryNotFoundError:
            raise UserError(f"{where} does not hold {path} (404); type --update to ask for its newest files") from None
        except OSError as error:
            if error.filename or error.errno:
                raise UserError(f"{path or where}: {error.strerror or error}; make room, then type it again") from None
            raise UserError(f"{where}: {first_line(error)}; type the command again to go on") from None
        except Exception as error:  # whatever the client of this version raises for a broken connection
            raise UserError(f"{where}: {first_line(error)}; type the command again to go on") from None


class StoppableFile:
    """A file that takes no more once `stopped` is set: so Ctrl-C does not wait for downloads under way."""

    def __init__(self, file: IO[bytes], stopped: threading.Event) -> None:
        self.file, self.stopped = file, stopped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        if self.stopped.is_set():
            raise UserError("another download failed or was interrupted; type the command again to go on")
        return self.file.write(content)


def content_digest(path: Path, remote: RemoteFile) -> str:
    """The hash of a file, of the kind that the hub gave."""
    if len(remote.digest) == GIT_HASH_LENGTH:
        digest: Any = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """An exception in a few words."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
