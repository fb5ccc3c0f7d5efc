"""Shards that grow: tokens are appended to a .part file, which becomes a shard when it is full, and not before.

A part has a header without the magic number, so no reader takes it for a shard. Invariant: after a stop anywhere,
`resume` with the counts of the last checkpoint leaves exactly the tokens that were counted then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from golf.data.shards import SHARD_HEADER_BYTES, SHARD_HEADER_INTS, SHARD_MAGIC, SHARD_VERSION
from golf.errors import UserError


class ShardWriter:
    """fineweb_<split>_%06d.bin in a folder, `shard_tokens` each, the last one as long as it gets."""

    def __init__(self, folder: Path, split: str, shard_tokens: int) -> None:
        self.folder, self.split, self.shard_tokens = folder, split, shard_tokens
        self.lengths: list[int] = []  # of finished shards
        self.pending = 0  # tokens of the part
        self._file: BinaryIO | None = None

    @property
    def tokens(self) -> int:
        """Tokens written in all."""
        return sum(self.lengths) + self.pending

    def shard(self, index: int) -> Path:
        return self.folder / f"fineweb_{self.split}_{index:06d}.bin"

    def part(self, index: int) -> Path:
        return self.shard(index).with_suffix(".bin.part")

    def append(self, values: np.ndarray) -> None:
        """Write values [N], uint16, over as many shards as they take."""
        while len(values):
            file = self._open()
            piece = values[: self.shard_tokens - self.pending]
            file.write(piece.astype("<u2").tobytes())
            self.pending += len(piece)
            values = values[len(piece) :]
            if self.pending == self.shard_tokens:
                self.finish()

    def finish(self) -> None:
        """Make a shard of the part: header, then the name."""
        if not self.pending:
            return
        file, index = self._open(), len(self.lengths)
        header = np.zeros(SHARD_HEADER_INTS, dtype="<i4")
        header[:3] = SHARD_MAGIC, SHARD_VERSION, self.pending
        file.seek(0)
        file.write(header.tobytes())
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._file = None
        os.replace(self.part(index), self.shard(index))
        self.lengths.append(self.pending)
        self.pending = 0

    def flush(self) -> None:
        """Hand to the system what a checkpoint is about to promise."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def checkpoint(self) -> dict[str, object]:
        return {"lengths": list(self.lengths), "pending": self.pending}

    def resume(self, state: dict[str, object]) -> None:
        """Back to a checkpoint: later shards and tokens are taken off.

        Raises:
            UserError: files of the checkpoint are gone.
        """
        self.lengths, self.pending = [int(n) for n in state["lengths"]], int(state["pending"])  # type: ignore[union-attr,arg-type]
        index = len(self.lengths)
        if self.shard(index).is_file() and not self.part(index).is_file():
            os.replace(self.shard(index), self.part(index))  # finished after the checkpoint
        for path in self.folder.glob(f"fineweb_{self.split}_[0-9]*.bin*"):
            number = int(path.name.removeprefix(f"fineweb_{self.split}_")[:6])
            if number > index or (number == index and path != self.part(index)):
                path.unlink()
        missing = [self.shard(i) for i, n in enumerate(self.lengths) if shard_size(self.shard(i)) != n]
        if self.pending and shard_size(self.part(index)) < self.pending:
            missing.append(self.part(index))
        if missing:
            raise UserError(f"{missing[0]} is not as it was left; type --restart to begin again")
        if self.pending:
            os.truncate(self.part(index), SHARD_HEADER_BYTES + 2 * self.pending)
        else:
            self.part(index).unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        if self._file is None:
            path = self.part(len(self.lengths))
            self._file = open(path, "r+b" if self.pending else "wb")  # noqa: SIM115 (kept open between calls)
            if self.pending:
                self._file.seek(0, os.SEEK_END)
            else:
                self._file.write(bytes(SHARD_HEADER_BYTES))
        return self._file


def shard_size(path: Path) -> int:
    """Tokens that fit the file's size, −1 if there is none."""
    return (path.stat().st_size - SHARD_HEADER_BYTES) // 2 if path.is_file() else -1
