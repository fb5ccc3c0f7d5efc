"""The whole ladder of protocols, cheapest first: contiguous, sliding, and adaptive where there is a method.

The first one also scores the rungs below the packed artifact (raw, averaged, quantised), so that all differences
between them come from the weights; the last one gives the score that is submitted.
"""

from __future__ import annotations

from typing import Any

from golf.evaluation.adaptive import Adaptive
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import Evaluator
from golf.evaluation.sliding import Sliding


class Ladder:
    """Windows of the same length (0: the length the model was trained at). `ttt`: method of the last rung, or none.

    limit_seconds: of every rung. over_limit, tilt: of the one with test-time training, see `Adaptive`. tail, head: see
    `Sliding`.
    """

    def __init__(
        self,
        seq_len: int = 0,
        stride: int = 64,
        tail: str = "exact",
        batch_tokens: int = 0,
        max_tokens: int = 0,
        ttt: Any = None,
        limit_seconds: float | None = None,
        over_limit: str = "refuse",
        max_documents: int = 0,
        head: str = "exact",
        tilt: Any = None,
    ) -> None:
        self.seq_len, self.stride, self.tail, self.head = seq_len, stride, tail, head
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents
        self.adaptive: Adaptive | None = None
        if ttt:
            sizes = (batch_tokens, max_tokens, limit_seconds, over_limit)
            self.adaptive = Adaptive(seq_len, stride, tail, ttt, *sizes, tilt=tilt)
        Sliding(seq_len, stride, tail, head=head)  # refuses what cannot be

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        sliding = Sliding(
            seq_len, self.stride, self.tail, self.batch_tokens, self.max_tokens, 0, self.head, self.limit_seconds
        )
        contiguous = Contiguous(seq_len, self.batch_tokens, self.max_tokens, 0, self.limit_seconds)
        found: dict[str, Evaluator] = {contiguous.name: contiguous, sliding.name: sliding}
        return found if self.adaptive is None else found | self.adaptive.evaluators(train_seq_len)
