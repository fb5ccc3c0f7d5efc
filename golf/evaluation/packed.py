"""Packed evaluation: flat rows of the stream, attention inside documents and inside segments of at most seq_len tokens.

This is how the records from 10 April 2026 validate during training: a row of `row_tokens` targets is cut where its
inputs have a BOS and at every multiple of seq_len from there. Every target once; a row cut short by the end of the
stream is scored too, or left out with tail "dropped", as published.
"""

from __future__ import annotations

from typing import Any

from golf.errors import UserError
from golf.evaluation.protocol import Evaluator
from golf.evaluation.windows import Window

PACKED_TAILS = ("exact", "dropped")


class Packed:
    """`seq_len`: longest segment (0: the length the model was trained at). `row_tokens`: 0 = 16 segments."""

    name = "packed"
    rescoring = "forbid"
    interleaved = False

    def __init__(
        self,
        seq_len: int = 0,
        row_tokens: int = 0,
        tail: str = "exact",
        batch_tokens: int = 0,
        max_tokens: int = 0,
        limit_seconds: float | None = None,
        max_documents: int = 0,
    ) -> None:
        if tail not in PACKED_TAILS:
            raise UserError(f"eval.tail={tail!r}: allowed are {', '.join(PACKED_TAILS)}; type eval.tail=exact")
        self.seq_len, self.stride, self.row_tokens, self.tail = seq_len, seq_len, row_tokens, tail
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        row_tokens = self.row_tokens or 16 * seq_len
        sizes = (self.batch_tokens, self.max_tokens, self.limit_seconds)
        return {self.name: Packed(seq_len, row_tokens, self.tail, *sizes)}

    def windows(self, num_tokens: int) -> list[Window]:
        """The rows."""
        targets, row = num_tokens - 1, self.row_tokens or self.seq_len
        end = targets if self.tail == "exact" else targets // row * row
        return [Window(start, min(row, targets - start), 0) for start in range(0, end, row)]

    def run(self, session: Any) -> None:
        rows = self.windows(session.num_targets + 1)
        rows = rows[len(rows) * session.rank // session.world : len(rows) * (session.rank + 1) // session.world]
        session.expect(sum(row.length for row in rows))
        session.score_flat(rows, self.seq_len)
