"""Sliding-window evaluation: windows of seq_len tokens move by `stride`; only the last `stride` targets are new.

Every scored target but those of the first window sees at least seq_len - stride tokens of context.
With N targets, T = seq_len and s = stride, a window at p reads tokens p … p+T-1 and predicts p+1 … p+T:

- tail "exact" (default): p = 0, s, 2s … while p + (T - s) < N; the first window scores everything, the others what
  follows offset T - s. Every target exactly once, for any N, T and s <= T.
- tail "rescored", as first published: every p < N; windows cut short by the end score their last s targets, so the
  last s targets of the stream are scored about T/s times. For reproducing published numbers only.
- tail "rescored_whole": as "rescored", without the windows of fewer than s targets (23 March).
- tail "dropped": only p < N - T, so that the end of the stream is never scored. For reproducing published numbers.
"""

from __future__ import annotations

from golf.errors import UserError
from golf.evaluation.protocol import Evaluator, Window

SLIDING_TAILS = ("exact", "rescored", "rescored_whole", "dropped")


class Sliding:
    """Windows of `seq_len` tokens (0: the length the model was trained at) every `stride` tokens."""

    def __init__(
        self, seq_len: int = 0, stride: int = 64, tail: str = "exact", batch_tokens: int = 0, max_tokens: int = 0
    ) -> None:
        if tail not in SLIDING_TAILS:
            raise UserError(f"eval.tail={tail!r}: allowed are {', '.join(SLIDING_TAILS)}; type eval.tail=exact")
        if stride < 1 or (seq_len and stride > seq_len):
            raise UserError(
                f"eval.stride={stride} with a window of {seq_len}: allowed is 1 … {seq_len or 'the window'}, "
                f"or targets would be skipped; type eval.stride={min(64, seq_len or 64)}"
            )
        self.seq_len = seq_len
        self.stride = stride
        self.tail = tail
        self.batch_tokens = batch_tokens
        self.max_tokens = max_tokens
        self.name = "sliding" if tail == "exact" else f"sliding_{tail}"
        self.rescoring = "count" if tail.startswith("rescored") else "forbid"
        self.interleaved = tail == "dropped"

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        seq_len = self.seq_len or train_seq_len
        return {self.name: Sliding(seq_len, self.stride, self.tail, self.batch_tokens, self.max_tokens)}

    def windows(self, num_tokens: int) -> list[Window]:
        targets, length, stride = num_tokens - 1, self.seq_len, self.stride
        if self.tail == "exact":
            end = max(targets - (length - stride), 1)
        elif self.tail == "rescored":
            end = targets
        elif self.tail == "rescored_whole":
            end = max(targets - stride + 1, 1)
        else:
            end = targets - length
        return [self._window_at(p, targets) for p in range(0, end, stride)]

    def _window_at(self, start: int, targets: int) -> Window:
        length = min(self.seq_len, targets - start)
        if start == 0:
            return Window(start, length, 0)
        whole = length if self.tail.startswith("rescored") else self.seq_len
        return Window(start, length, max(whole - self.stride, 0))
