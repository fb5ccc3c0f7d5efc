"""The evaluation clock: where the seconds of a scoring went (load, warm-up, score, adapt), against a limit.

Phases are exclusive: time inside an inner phase is not counted for the outer one, so the phases add up to the total.
The limit is that of the challenge (600 seconds from loading to the last score, test-time training included); 0 = none.
The total is predicted from the pace so far; compiling, which happens once, is no part of the pace. What will not fit is
refused as soon as that is clear, or (`over_limit="shorten"`) learning ends in time for the rest to be scored as it
stands: that score depends on the machine, and the record says at which target learning ended.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from golf.errors import LimitExceeded

PHASES = ("load", "warm-up", "score", "adapt")
FIRST_PREDICTION = 0.1  # share of the work, or of the limit, after which the prediction counts
SHORTENED_PREDICTION = 0.3  # the same for refusing what may be shortened
PREDICTION_SLACK = 1.25  # a prediction this much above the limit ends the scoring before the limit is reached
LEARNING_SHARE = 0.95  # learning ends where what is left to score would take more than this share of the limit
LEARNING_COST = 3.0  # a token that is learned from, in tokens that are scored: forward and backward
OVER_LIMIT = ("refuse", "shorten")


class EvaluationClock:
    """Seconds per phase. `limit_seconds`: passing it, or heading far past it, raises LimitExceeded; 0 = only measure.

    `synchronise` is called where a phase begins and ends (a device synchronise); `now` is replaceable in tests.
    """

    def __init__(
        self,
        limit_seconds: float = 0.0,
        synchronise: Callable[[], None] | None = None,
        now: Callable[[], float] = time.perf_counter,
        over_limit: str = "refuse",
    ):
        self.limit_seconds, self.synchronise, self.now = limit_seconds, synchronise, now
        self.over_limit = over_limit
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.predicted_seconds, self.share_done = 0.0, 0.0
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside under `name`, one of PHASES."""
        if name not in self.seconds:
            raise ValueError(f"phase {name!r}: allowed are {', '.join(PHASES)}")
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Book the time since the last change of phase."""
        if self.synchronise is not None:
            self.synchronise()
        now = self.now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def read(self) -> float:
        """Seconds of all phases so far."""
        running = self.now() - self._since if self._open else 0.0
        return sum(self.seconds.values()) + running

    def predict(self, share_done: float) -> float:
        """Seconds of all at the pace so far; 0 while nothing is done."""
        once = self.seconds["load"] + self.seconds["warm-up"]
        return once + (self.read() - once) / share_done if share_done > 0 else 0.0

    def check(self, share_done: float) -> None:
        """Predict the total from the share of the work that is done.

        Raises:
            LimitExceeded: the limit is passed, or will be by a wide margin.
        """
        used, limit = self.read(), self.limit_seconds
        self.share_done, self.predicted_seconds = share_done, self.predict(share_done)
        if not limit:
            return
        enough = FIRST_PREDICTION
        if self.over_limit == "shorten":  # the passes that are learned from are slower than those to come
            self.predicted_seconds, enough = self.without_learning(share_done), SHORTENED_PREDICTION
        if used > limit or (not self._early(share_done, enough) and self.predicted_seconds > PREDICTION_SLACK * limit):
            raise LimitExceeded(
                f"scoring takes longer than eval.limit_seconds={limit:g}: {used:.0f} s for "
                f"{share_done:.0%} of the work, about {self.predicted_seconds:.0f} s for all; "
                f"type eval.limit_seconds=0 to go on without a limit{self._shorter()}"
            )

    def _early(self, share_done: float, enough: float = FIRST_PREDICTION) -> bool:
        """Whether too little is done to tell the pace."""
        paced = self.read() - self.seconds["load"] - self.seconds["warm-up"]
        return share_done < enough and paced < enough * self.limit_seconds

    def _shorter(self) -> str:
        learns = self.seconds["adapt"] > 0 and self.over_limit == "refuse"
        return ", or eval.over_limit=shorten to end learning in time" if learns else ""

    def without_learning(self, share_done: float) -> float:
        """Seconds of all, if nothing more is learned from here on."""
        scoring = self.seconds["score"] / share_done if share_done > 0 else 0.0
        return self.read() + scoring * (1.0 - share_done)

    def time_to_learn(self, share_done: float, tokens: float = 0.0) -> bool:
        """Whether learning still leaves the time to score the rest; always, unless learning may be shortened.

        tokens: how much is learned from in one go, as a part of the work.
        """
        if not self.limit_seconds or self.over_limit == "refuse" or (self._early(share_done) and not tokens):
            return True
        learning = LEARNING_COST * tokens * self.seconds["score"] / share_done if share_done > 0 else 0.0
        return self.without_learning(share_done) + learning < LEARNING_SHARE * self.limit_seconds

    def eta(self) -> str:
        """How far the scoring is and when it will be done, in words."""
        used = self.read()
        limit = f", limit {self.limit_seconds:g} s" if self.limit_seconds else ""
        left = max(self.predicted_seconds - used, 0.0)
        return f"{self.share_done:.0%}, about {left:.0f} s left (about {used + left:.0f} s in all{limit})"

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "limit_seconds": self.limit_seconds,
        }
