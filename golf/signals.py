"""Ctrl-C and SIGTERM as one line and an exit code (130, 143), wherever a command is when they arrive.

Invariant: whoever installs a handler puts the previous one back, so handlers nest: the command line's, a run's (which
names the folder to go on with), and training's (which first finishes the step and writes a checkpoint).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from golf.errors import Interrupted

STOPPING = (signal.SIGTERM, signal.SIGINT)


def handle_stop(handler: Callable[[int], None]) -> None:
    """Call `handler(signal number)` on Ctrl-C and SIGTERM from now on (Python allows that in the main thread only)."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, lambda received, frame: handler(received))


@contextmanager
def stop_with(message: str) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise `Interrupted`; `{signal}` in the message is the signal's name."""
    before = {number: signal.getsignal(number) for number in STOPPING}

    def stop(received: int) -> None:
        raise Interrupted(message.format(signal=signal.Signals(received).name), received)

    handle_stop(stop)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
