"""One queue of work for several processes of a machine, which survives the death of any of them.

A piece of work is claimed by locking its file (`flock`), and done when its file of losses is there (atomic rename). The
kernel lets go of the locks of a process that dies, so what it had claimed and not finished can be claimed again by
whoever looks next; what it had recorded only in its own memory is lost with it, so no target is scored twice. There is
no collective operation and no process that the others depend on: every one that lives to the end holds all losses.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

WAIT_SECONDS = 0.05  # between two looks at work that others have claimed
NEWS_SECONDS = 0.5  # between two looks at how far the others are
PROGRESS = struct.Struct("dd")  # work that is done and published, work of the piece at hand


class WorkQueue:
    """`folder`: an empty folder that all processes share; `worker`: this one's number, `workers`: of how many."""

    def __init__(self, folder: Path | str, worker: int = 0, workers: int = 1):
        self.folder, self.worker, self.workers = Path(folder), worker, workers
        self.folder.mkdir(parents=True, exist_ok=True)
        self.published, self.taken_over = 0.0, 0  # own work that is done; pieces that somebody else had begun
        self.dealt, self.asked = 0, 0  # pieces and questions so far, the same in every process
        self._elsewhere, self._looked = 0.0, 0.0
        self._life = self._open(f"worker-{worker}")
        fcntl.flock(self._life, fcntl.LOCK_EX)

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)

    def _result(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def deal(self, session: Any, pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Pieces with their numbers for a session to score; in the end all losses of all pieces are in its ledger."""
        names = [f"piece-{self.dealt + number}" for number in range(len(pieces))]
        self.dealt += len(pieces)
        mine = set[int]()
        for number in self.claims(names, session.check):
            session.noted, before = [], session.worked
            yield number, pieces[number]
            self.publish(names[number], session.noted)
            self.published += session.worked - before
            session.noted = None
            mine.add(number)
        for number, name in enumerate(names):
            if number not in mine:
                for first_target, nll_S, contexts_S in self.result(name):
                    session.write(first_target, torch.from_numpy(nll_S), [contexts_S])

    # -- claiming -----------------------------------------------------------------------------------------------------
    def claims(self, names: Sequence[str], on_wait: Callable[[], None]) -> Iterator[int]:
        """Indices of the pieces that fall to this process, in order, until all are done by somebody."""
        left = list(range(len(names)))
        while left:
            mine = None
            for index in left:
                if (mine := self._claim(names[index])) is not None:
                    try:
                        yield index
                    finally:
                        os.close(mine)
                    break
            left = [index for index in left if not self._result(names[index]).exists()]
            if left and mine is None:
                on_wait()
                time.sleep(WAIT_SECONDS)

    def _claim(self, name: str) -> int | None:
        """The locked file of a piece, or None where it is done or in other hands."""
        if self._result(name).exists():
            return None
        file = self._open(name)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if self._result(name).exists():  # it was finished while this process looked
            os.close(file)
            return None
        self.taken_over += os.fstat(file).st_size > 0
        os.pwrite(file, str(self.worker).encode(), 0)
        return file

    # -- results ------------------------------------------------------------------------------------------------------
    def publish(self, name: str, records: Sequence[tuple[int, Any, np.ndarray]]) -> None:
        """Hand the losses of a finished piece to the others: (first target, losses, tokens read) of every record."""
        first, nll, contexts = zip(*records)
        sizes = [len(nll_S) for nll_S in nll]
        whole = self.folder / f"{name}.{self.worker}.part"
        with open(whole, "wb") as file:
            np.savez(file, first=first, sizes=sizes, nll=np.concatenate(nll), contexts=np.concatenate(contexts))
        os.replace(whole, self._result(name))

    def finish(self, name: str) -> None:
        """A piece is done that leaves nothing to hand on."""
        self._result(name).touch()

    def result(self, name: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """The records of a piece, as they were published."""
        with np.load(self._result(name)) as found:
            first, ends = found["first"].tolist(), np.cumsum(found["sizes"])[:-1]
            yield from zip(first, np.split(found["nll"], ends), np.split(found["contexts"], ends))

    def agree(self, question: str, answer: bool) -> bool:
        """The answer of whoever was asked first; all are asked the same questions in the same order."""
        self.asked += 1
        name = f"{question}-{self.asked}"
        own = self.folder / f"{name}.{self.worker}.answer"
        own.write_bytes(b"1" if answer else b"0")
        with suppress(FileExistsError):
            os.link(own, self.folder / name)
        return (self.folder / name).read_bytes() == b"1"

    # -- how far all are ----------------------------------------------------------------------------------------------
    def elsewhere(self, done: float) -> float:
        """Work that the others have done, what the dead had begun left out; tells them what is done here."""
        now = time.monotonic()
        if now - self._looked >= NEWS_SECONDS:
            self._looked = now
            os.pwrite(self._life, PROGRESS.pack(self.published, done - self.published), 0)
            others = (worker for worker in range(self.workers) if worker != self.worker)
            self._elsewhere = sum(self._done_by(worker) for worker in others)
        return self._elsewhere

    def _done_by(self, worker: int) -> float:
        file = self._open(f"worker-{worker}")
        try:
            written = os.pread(file, PROGRESS.size, 0)
            done, begun = PROGRESS.unpack(written) if len(written) == PROGRESS.size else (0.0, 0.0)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return done + begun  # it holds its lock: it lives
            return done
        finally:
            os.close(file)
