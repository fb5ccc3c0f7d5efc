"""Contiguous evaluation: the stream is cut into blocks of seq_len tokens and every target is scored once.

The first target of a block is predicted from one token only, so this is the cheapest and the worst score of a model
(records: the baseline's own validation). Invariant: the windows' scored targets are 1 … N, each exactly once.
"""

from __future__ import annotations

from golf.errors import UserError
from golf.evaluation.protocol import Evaluator
from golf.evaluation.windows import Window, WindowGrid


class Contiguous:
    """Blocks of `seq_len` tokens (0: the length the model was trained at); an incomplete last block is scored too.

    limit_seconds: of the evaluation clock; 0 or null = only measure.
    """

    name = "contiguous"
    whole = True  # windows have no targets that do not count
    rescoring = "forbid"
    interleaved = False

    def __init__(
        self,
        seq_len: int = 0,
        batch_tokens: int = 0,
        max_tokens: int = 0,
        max_documents: int = 0,
        limit_seconds: float | None = None,
    ) -> None:
        if seq_len < 0:
            raise UserError(f"eval.seq_len={seq_len}: allowed is 0 (as in training) or a number of tokens, e.g. 1024")
        self.seq_len = seq_len
        self.stride = seq_len
        self.batch_tokens = batch_tokens
        self.max_tokens, self.max_documents, self.limit_seconds = max_tokens, max_documents, limit_seconds or 0.0

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        made = Contiguous(seq_len, self.batch_tokens, self.max_tokens, self.max_documents, self.limit_seconds)
        return {self.name: made}

    def windows(self, num_tokens: int) -> WindowGrid:
        targets = num_tokens - 1
        return WindowGrid(self.places(targets), lambda place: self.window_at(place, targets))

    def places(self, targets: int) -> range:
        """What `window_at` makes the windows of."""
        return range(0, targets, self.seq_len)

    def window_at(self, place: int, targets: int) -> Window:
        return Window(place, min(self.seq_len, targets - place), 0)
