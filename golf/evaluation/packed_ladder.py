"""The ladder of the records from 10 April 2026: packed rows (attention inside documents), then test-time training.

Their scripts have no sliding windows: whole documents are what a network trained on packed rows is scored on. The first
rung also scores what is below the packed artifact; the second, where there is a method, is what is submitted.
"""

from __future__ import annotations

from typing import Any

from golf.evaluation.adaptive import Adaptive
from golf.evaluation.packed import Packed
from golf.evaluation.protocol import EvaluationPlan, Evaluator


class PackedLadder:
    """row_tokens, packed_tail: of the rows, see `Packed`. `ttt`, stride, over_limit: see `Adaptive`.

    limit_seconds: of every rung.
    """

    def __init__(
        self,
        seq_len: int = 0,
        row_tokens: int = 0,
        packed_tail: str = "exact",
        stride: int = 64,
        batch_tokens: int = 0,
        max_tokens: int = 0,
        ttt: Any = None,
        limit_seconds: float | None = None,
        over_limit: str = "refuse",
        max_documents: int = 0,
    ) -> None:
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents
        self.rungs: list[EvaluationPlan] = [
            Packed(seq_len, row_tokens, packed_tail, batch_tokens, max_tokens, limit_seconds)
        ]
        if ttt:
            sizes = (batch_tokens, max_tokens, limit_seconds, over_limit)
            self.rungs.append(Adaptive(seq_len, stride, "exact", ttt, *sizes))

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        return {name: rung for plan in self.rungs for name, rung in plan.evaluators(train_seq_len).items()}
