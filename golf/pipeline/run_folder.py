"""The run folder: what a run was asked, where it ran, what it is made of, and what it said."""

from __future__ import annotations

import errno
import importlib.metadata
import io
import json
import os
import platform
import shlex
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf import __version__
from golf.errors import UserError
from golf.files import disk_error, read_yaml, write_atomically, write_yaml

RUN_VERSION = 1
PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "sentencepiece",
    "safetensors",
    "wandb",
    "zstandard",
)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and its resolved config. Exports live in artifact/<name>/ and submission/<name>/."""

    path: Path
    config: dict[str, Any]

    def export_root(self, export: str) -> Path:
        """Where an export's stages are: the run folder for the run's own export, artifact/<name> for others."""
        return self.path if export == self.config["export"] else self.path / "artifact" / export

    def artifact(self, export: str) -> Path:
        return self.path / "artifact" / export / "model.golf"

    def code(self, export: str) -> Path:
        return self.path / "submission" / export / "train_gpt.py"

    def own_targets(self, export: str) -> list[str]:
        """Targets from outside of golf that an export of this run may be built and read with."""
        from golf.own_techniques import own_targets
        from golf.pipeline.stage import stage_result

        packed = stage_result(self.export_root(export), "pack") or {}
        return sorted({*own_targets(self.config), *packed.get("own_targets", [])})

    def data(self, say: Callable[[str], None] = lambda line: None, require_train: bool = True) -> Any:
        """The run's prepared data: made on first use, from then on exactly that folder (another machine state, such as
        a network that is gone, must not change what a run trains on or is scored on).

        Raises:
            UserError: its validation shards are others than when the run was made.
        """
        from golf.config.build import build
        from golf.data.dataset import open_folder
        from golf.pipeline.validation_split import require_split_of_run

        pinned = self.data_identity()
        if pinned and Path(pinned["folder"]).is_dir():
            prepared = open_folder(pinned["folder"], pinned["tokenizer"], require_train)
            require_split_of_run(prepared, pinned)
            return prepared
        prepared = build(self.config["data"]).prepare(say=say, require_train=require_train)
        require_split_of_run(prepared, pinned)
        found = {"folder": prepared.folder, "tokenizer": prepared.tokenizer_path, **prepared.identity()}
        write_atomically(self.path / "data.json", json.dumps(found, indent=1))
        return prepared

    def data_identity(self) -> dict[str, Any]:
        """What the run wrote down of its data; {} before it has any."""
        pinned = self.path / "data.json"
        return json.loads(pinned.read_text(encoding="utf-8")) if pinned.is_file() else {}

    def say(self, line: str) -> None:
        """Print a line and append it to log.txt."""
        print(line, flush=True)
        try:
            with open(self.path / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        except OSError as error:
            raise disk_error(error, self.path / "log.txt") from error


@contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """Hold a run for this process, so that two cannot go on with it at once; freed by the system when it ends.

    Raises:
        UserError: another process holds it.
    """
    with open(run.path / ".lock", "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # a system without file locks
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                yield  # a file system without locks
                return
            raise UserError(
                f"run={run.path} is being worked on by another process: wait for it, or stop it first"
            ) from error
        yield


def create_run_folder(path: Path, config: dict[str, Any], overrides: list[str]) -> RunFolder:
    """Write what a new run starts with: config, overrides, command, environment and the source as it is now.

    Raises:
        UserError: the folder is not writable, or already holds a run.
    """
    if (path / "config.yaml").exists():
        raise UserError(f"{path} already holds a run: go on with python train.py run={path}, or choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "source.tar.zst").write_bytes(source_snapshot())
    except OSError as error:
        raise disk_error(error, path) from error
    command = shlex.join([Path(sys.executable).name, *sys.argv])
    write_atomically(path / "command.txt", command + "\n")
    write_atomically(path / "environment.json", json.dumps(environment(), indent=1))
    write_yaml(path / "overrides.yaml", overrides)
    write_yaml(path / "config.yaml", {"run_version": RUN_VERSION, **config})
    return RunFolder(path, config)


def open_run_folder(path: str | Path) -> RunFolder:
    """An existing run.

    Raises:
        UserError: not a run folder, or one of another version.
    """
    folder = Path(path)
    config_path = folder / "config.yaml"
    if not config_path.is_file():
        raise UserError(f"run={path} is not a run folder (no config.yaml): type a folder like runs/<name>/<time>")
    config = read_yaml(config_path)
    version = config.pop("run_version", None) if isinstance(config, dict) else None
    if version != RUN_VERSION:
        raise UserError(
            f"run={path} has run version {version}, this golf reads {RUN_VERSION}: use the golf that made it "
            "(its source is in source.tar.zst)"
        )
    return RunFolder(folder, config)


def environment() -> dict[str, Any]:
    """Versions, machine and commit."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "golf": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": versions,
        "gpus": gpus(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def commit() -> str:
    """Commit of the checkout golf runs from, with -dirty for local changes; `unknown` outside of one."""
    from golf.config.resolvers import git

    return git()


def gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def source_snapshot() -> bytes:
    """golf's own Python and YAML files as a zstd-compressed tar; deterministic for the same files."""
    import zstandard

    import golf
    from golf.config.compose import conf_dir

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for root, pattern in ((Path(golf.__file__).parent, "*.py"), (conf_dir(), "*.yaml")):
            for path in sorted(root.rglob(pattern)):
                entry = tarfile.TarInfo(str(Path(root.name) / path.relative_to(root)))
                content = path.read_bytes()
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=12).compress(buffer.getvalue())


def remove_leftovers(folder: Path) -> None:
    """Delete the half-written files that a killed process left beside their places."""
    for path in folder.rglob("*.part"):
        if path.is_file():
            path.unlink(missing_ok=True)


def silent(line: str) -> None:
    """What ranks other than 0 say."""


def speaker(run: RunFolder, rank: int) -> Callable[[str], None]:
    return run.say if rank == 0 else silent
