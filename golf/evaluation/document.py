"""Document evaluation: every document is scored from its own BOS, and nothing crosses from one to the next.

Within a document, windows of at most seq_len tokens move by `stride`, as in sliding evaluation (stride = seq_len:
blocks). The BOS that ends a document is its last target. Windows of like length share a batch, whichever documents
they come from, dealt out to the ranks; a document's windows stay in order. (Isolation: record of 17 March 2026.)
"""

from __future__ import annotations

from typing import Any

from golf.errors import UserError
from golf.evaluation.documents import DocumentSpan, document_windows
from golf.evaluation.protocol import Evaluator
from golf.evaluation.windows import Window


class DocumentIsolated:
    """`seq_len`: most tokens a window reads (0: the length the model was trained at); `stride`: None = seq_len."""

    name = "document"
    rescoring = "forbid"
    interleaved = True
    by_document = True

    def __init__(
        self,
        seq_len: int = 0,
        stride: int | None = None,
        batch_tokens: int = 0,
        max_tokens: int = 0,
        limit_seconds: float | None = None,
        max_documents: int = 0,
    ) -> None:
        if stride is not None and (stride < 1 or (seq_len and stride > seq_len)):
            raise UserError(f"eval.stride={stride}: allowed is 1 … {seq_len or 'the window'}; type eval.stride=null")
        self.seq_len, self.stride = seq_len, stride or seq_len
        self.batch_tokens, self.max_tokens, self.limit_seconds = batch_tokens, max_tokens, limit_seconds or 0.0
        self.max_documents = max_documents

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        made = DocumentIsolated(seq_len, self.stride or seq_len, self.batch_tokens, self.max_tokens, self.limit_seconds)
        return {self.name: made}

    def windows(self, num_tokens: int) -> list[Window]:
        """Of one document of num_tokens tokens."""
        return document_windows(DocumentSpan(0, num_tokens), self.seq_len, self.stride)

    def run(self, session: Any) -> None:
        """Score by turns (a document's first windows, its second …), the longest of a turn first."""
        windows = [
            (turn, -window.length, window)
            for span in session.documents()
            for turn, window in enumerate(document_windows(span, self.seq_len, self.stride))
        ]
        ordered = [window for _, _, window in sorted(windows, key=lambda item: item[:2])]
        batches = session.batches(ordered, self.seq_len, self.stride)[session.rank :: session.world]
        session.expect(batches.num_targets)
        session.score(batches, self.seq_len, self.stride)
