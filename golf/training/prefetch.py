"""Batches ahead of time: a thread makes the next ones while the device works, in order, a bounded number of them.

The stream's batches are pure functions of their number, so making one early changes nothing. Only where there is a
device to feed: on the CPU the thread would take the cores that train. Invariant: what `make` raises reaches the caller.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

AHEAD = 2
POLL_SECONDS = 0.1


def prefetched(make: Callable[[int], Any], first: int, ahead: int = AHEAD) -> Iterator[Any]:
    """make(first), make(first + 1), … without an end; closing the iterator ends the thread."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def offer(item: tuple[Any, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue

    def work() -> None:
        number = first
        while not stopped.is_set():
            try:
                item = (make(number), None)
            except BaseException as error:  # whatever it is, it belongs to the one who asked
                return offer((None, error))
            offer(item)
            number += 1

    thread = threading.Thread(target=work, name="golf-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join(timeout=10 * POLL_SECONDS)
