"""The whole ladder of protocols, cheapest first: contiguous, sliding, and adaptive where there is a method.

The first one also scores the rungs below the packed artifact (raw, averaged, quantised), so that all differences
between them come from the weights; the last one gives the score that is submitted.
"""

from __future__ import annotations

from typing import Any

from golf.evaluation.adaptive import Adaptive
from golf.evaluation.contiguous import Contiguous
from golf.evaluation.protocol import EvaluationPlan, Evaluator
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
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents
        self.rungs: list[EvaluationPlan] = [
            Contiguous(seq_len, batch_tokens, max_tokens, 0, limit_seconds),
            Sliding(seq_len, stride, tail, batch_tokens, max_tokens, 0, head, limit_seconds),
        ]
        if ttt:
            sizes = (batch_tokens, max_tokens, limit_seconds, over_limit)
            self.rungs.append(Adaptive(seq_len, stride, tail, ttt, *sizes, tilt=tilt))

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        return {name: rung for plan in self.rungs for name, rung in plan.evaluators(train_seq_len).items()}
