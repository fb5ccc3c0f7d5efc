"""The whole ladder of protocols, cheapest first: contiguous, then sliding.

The first one also scores the rungs below the packed artifact (raw, averaged, quantised), so that all differences
between them come from the weights; the last one gives the score that is submitted.
"""

from __future__ import annotations

from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import Evaluator
from golf.evaluation.sliding import Sliding


class Ladder:
    """Contiguous and sliding windows of the same length (0: the length the model was trained at)."""

    def __init__(
        self, seq_len: int = 0, stride: int = 64, tail: str = "exact", batch_tokens: int = 0, max_tokens: int = 0
    ) -> None:
        self.batch_tokens = batch_tokens
        self.max_tokens = max_tokens
        self.rungs = (
            Contiguous(seq_len, batch_tokens, max_tokens),
            Sliding(seq_len, stride, tail, batch_tokens, max_tokens),
        )

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        return {name: rung for plan in self.rungs for name, rung in plan.evaluators(train_seq_len).items()}
