"""Random access to something that is drawn one after the other: states of a random generator, replayed.

Item k needs the state that k draws leave behind. States are values: `advance(state, wanted)` returns the next state and
the item (None if it is not wanted, so that a replay costs no more than its draws). The last few items are kept, with
the states after them: going on costs one step, going back a replay from the start, memory is constant.
Invariant: an item depends on its number only, whatever was asked for before, by however many threads.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

RECENT_ITEMS = 8


class Replay:
    """Items 0, 1, 2 … of the chain that begins with `start()`."""

    def __init__(self, start: Callable[[], Any], advance: Callable[[Any, bool], tuple[Any, Any]]) -> None:
        self.start, self.advance = start, advance
        self._recent: tuple[tuple[int, Any, Any], ...] = ()  # number, item, state after it; replaced as a whole

    def item(self, number: int) -> Any:
        recent = self._recent
        place, state = 0, None
        for known, item, after in recent:
            if known == number:
                return item
            if place <= known < number:
                place, state = known + 1, after
        if state is None:
            state = self.start()
        for _ in range(place, number):
            state = self.advance(state, False)[0]
        state, item = self.advance(state, True)
        self._recent = ((number, item, state), *recent)[:RECENT_ITEMS]
        return item


def generator_at(state: Any) -> np.random.Generator:
    """A PCG64 generator in a stored state (`generator.bit_generator.state`)."""
    bits = np.random.PCG64(0)
    bits.state = state
    return np.random.Generator(bits)
