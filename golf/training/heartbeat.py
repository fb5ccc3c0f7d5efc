"""Ranks that watch each other: a stopped, lost or stuck rank ends the run with its number and a command to go on with.

A collective waits for every rank, for minutes and without a word; a stopped process (SIGSTOP, a hung disk, a machine
that is gone) is not even dead. So a thread on each rank beats once a second in torchrun's store and reads the beats of
the others. A rank is silent when its beat does not change; it stands still when it beats, but no step begins or ends
while nobody validates, saves or compiles (the clock runs everywhere). After `rank_timeout_seconds` of either, the
process ends with RANK_LOST: nothing else can leave a collective. Invariant: no collective, no device, no step waits.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from golf.training.callbacks.base import GolfCallback

RANK_LOST = 75  # exit code of a rank that has said which other one is lost (sysexits: try again later)
KEY = "golf/beat/{}"


class Beat(NamedTuple):
    """What a rank says. waiting: inside the step's collective; busy: outside the clock; done: training is over."""

    count: int
    step: int
    waiting: bool
    busy: bool
    done: bool

    def encode(self) -> str:
        return " ".join(str(int(value)) for value in self)

    @classmethod
    def decode(cls, text: bytes) -> Beat:
        count, step, *flags = (int(value) for value in text.split())
        return cls(count, step, *(bool(flag) for flag in flags))


@dataclass
class Watch:
    """The judgement: fed with the beats of all ranks and the time, it says which rank is lost."""

    timeout: float
    own: int
    interval: float = 1.0

    def __post_init__(self) -> None:
        self._changed: dict[int, tuple[int, float]] = {}  # rank -> last count and when it was new
        self._position: tuple[Any, float] = (None, 0.0)  # the hindmost position and when it was new
        self._looked: float | None = None

    def judge(self, beats: Mapping[int, Beat], now: float) -> tuple[int, str] | None:
        """(rank, what is wrong with it), None if nothing is."""
        slept = self._looked is not None and now - self._looked > max(5 * self.interval, self.timeout / 2)
        self._looked = now
        if slept:  # this process itself was stopped: what it has not seen it cannot blame on others
            self._changed.clear()
            self._position = (None, now)
        for rank, beat in beats.items():
            if rank not in self._changed or self._changed[rank][0] != beat.count:
                self._changed[rank] = (beat.count, now)
        for rank, beat in beats.items():
            since = now - self._changed[rank][1]
            if rank != self.own and not beat.done and since > self.timeout:
                return rank, (
                    f"rank {rank} has been silent for {since:.0f} s after step {beat.step} "
                    "(stopped, or its machine is gone)"
                )
        hindmost = min((beat.step, beat.waiting) for beat in beats.values())
        idle = any(beat.busy or beat.done for beat in beats.values()) or hindmost[0] < 1
        if idle or hindmost != self._position[0]:
            self._position = (hindmost, now)
        since = now - self._position[1]
        if since > self.timeout:
            behind = [rank for rank, beat in beats.items() if (beat.step, beat.waiting) == hindmost]
            if len(behind) == len(beats):
                return behind[-1], f"no rank has moved for {since:.0f} s after step {hindmost[0]} (the network?)"
            return behind[0], f"rank {behind[0]} has stood still for {since:.0f} s after step {hindmost[0]}"
        return None


class Heartbeat:
    """The thread. `stop` ends it; after training came to its end a last beat says that this rank is done."""

    def __init__(self, session: Any, timeout: float, end: Callable[[int], Any] = os._exit):
        self.session, self.timeout, self.end = session, timeout, end
        self.interval = min(1.0, timeout / 5)
        self.watch = Watch(timeout, session.rank, self.interval)
        self._count, self._done, self._finished = 0, threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="golf-heartbeat", daemon=True)
        self._thread.start()

    def stop(self, finished: bool) -> None:
        self._finished = finished
        self._done.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        store, failing = None, None
        while not self._done.is_set():
            try:
                store = store or connect(self.interval * 5)
                store.set(KEY.format(self.session.rank), self._beat(done=False).encode())
                lost = self.watch.judge(self._beats(store), time.monotonic())
                failing = None
            except Exception as error:  # the store is a process like any other: it can be stopped or gone
                store, failing = None, failing or time.monotonic()
                since, lost = time.monotonic() - failing, None
                if since > self.timeout:
                    where = os.environ.get("MASTER_ADDR", "its host")
                    reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
                    lost = 0, f"the store on {where} has not answered for {since:.0f} s ({reason})"
            if lost is not None and not self._done.is_set():
                self._leave(*lost)
                return
            self._done.wait(self.interval)
        if not self._finished:
            return  # this rank fails: the others shall miss it
        with contextlib.suppress(Exception):
            (store or connect(self.interval)).set(KEY.format(self.session.rank), self._beat(done=True).encode())

    def _beat(self, done: bool) -> Beat:
        self._count += 1
        session = self.session
        return Beat(self._count, session.step, session.waiting, not session.clock.running, done)

    def _beats(self, store: Any) -> dict[int, Beat]:
        """The beats of the ranks that have begun to beat."""
        ranks = [rank for rank in range(self.session.world) if store.check([KEY.format(rank)])]
        return {rank: Beat.decode(store.get(KEY.format(rank))) for rank in ranks}

    def _leave(self, rank: int, what: str) -> None:
        """Say it once on every node, and end this process: its main thread may wait in a collective for ever."""
        session = self.session
        first = session.rank == (1 if rank == 0 else 0) or os.environ.get("LOCAL_RANK", "0") == "0"
        line = f"{what}; all ranks end: go on from the last checkpoint with python train.py run={session.folder}"
        if first:
            print(f"golf: {line}", file=sys.stderr, flush=True)
            with contextlib.suppress(OSError), open(session.folder / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        else:
            time.sleep(3 * self.interval)  # the first to end brings the others down: let one speak before
        self.end(RANK_LOST)


def connect(timeout_seconds: float) -> Any:
    """A connection of its own to the store that the ranks have met at."""
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout_seconds), wait_for_workers=False)


class HeartbeatCallback(GolfCallback):
    """Starts the heartbeat once the ranks have met; the train stage ends it when they have parted."""

    priority = 5

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        session = pl_module.session
        timeout = session.config["hardware"].get("rank_timeout_seconds", 0.0)
        if session.world > 1 and timeout and session.heartbeat is None:
            session.heartbeat = Heartbeat(session, timeout)
