"""Sliding-window evaluation: windows of seq_len tokens move by `stride`; only the last `stride` targets are new.

Every scored target but those of the first window sees at least seq_len - stride tokens of context.
With N targets, T = seq_len and s = stride, a window at p reads tokens p … p+T-1 and predicts p+1 … p+T:

- tail "exact" (default): p = 0, s, 2s … while p + (T - s) < N; the first window scores everything, the others what
  follows offset T - s. Every target exactly once, for any N, T and s <= T.
- tail "rescored", as first published: every p < N; windows cut short by the end score their last s targets, so the
  last s targets of the stream are scored about T/s times. For reproducing published numbers only.
- tail "rescored_whole": as "rescored", without the windows of fewer than s targets (23 March).
- tail "dropped": only p < N - T, so that the end of the stream is never scored. For reproducing published numbers.
- head "last_stride": the first window scores its last s targets only, so its first T - s targets are never scored;
  head "gap": after a whole first window the second begins at T - s, and what lies between is never scored (19 March).

Published variants carry their name, and a protocol line that says what they do else, wherever a score is shown.
"""

from __future__ import annotations

from golf.errors import UserError
from golf.evaluation.protocol import Evaluator
from golf.evaluation.windows import Window, WindowGrid

SLIDING_TAILS = ("exact", "rescored", "rescored_whole", "dropped")
SLIDING_HEADS = ("exact", "last_stride", "gap")


class Sliding:
    """Windows of `seq_len` tokens (0: the length the model was trained at) every `stride` tokens.

    limit_seconds: of the evaluation clock; 0 or null = only measure.
    """

    def __init__(
        self,
        seq_len: int = 0,
        stride: int = 64,
        tail: str = "exact",
        batch_tokens: int = 0,
        max_tokens: int = 0,
        max_documents: int = 0,
        head: str = "exact",
        limit_seconds: float | None = None,
    ) -> None:
        if tail not in SLIDING_TAILS:
            raise UserError(f"eval.tail={tail!r}: allowed are {', '.join(SLIDING_TAILS)}; type eval.tail=exact")
        if head not in SLIDING_HEADS:
            raise UserError(f"eval.head={head!r}: allowed are {', '.join(SLIDING_HEADS)}; type eval.head=exact")
        if stride < 1 or (seq_len and stride > seq_len):
            raise UserError(
                f"eval.stride={stride} with a window of {seq_len}: allowed is 1 … {seq_len or 'the window'}, "
                f"or targets would be skipped; type eval.stride={min(64, seq_len or 64)}"
            )
        self.seq_len = seq_len
        self.stride = stride
        self.tail, self.head = tail, head
        self.batch_tokens = batch_tokens
        self.max_tokens, self.max_documents, self.limit_seconds = max_tokens, max_documents, limit_seconds or 0.0
        self.name = f"sliding{variant(tail)}{variant(head)}"
        self.rescoring = "count" if tail.startswith("rescored") else "forbid"
        self.interleaved = tail == "dropped"

    def evaluators(self, train_seq_len: int) -> dict[str, Evaluator]:
        made = Sliding(
            self.seq_len or train_seq_len,
            self.stride,
            self.tail,
            self.batch_tokens,
            self.max_tokens,
            self.max_documents,
            self.head,
            self.limit_seconds,
        )
        return {self.name: made}

    @property
    def as_published(self) -> str:
        """What the published scripts do other than to score every target once; "" for the exact windows."""
        tail, head = self._tail_as_published(), self._head_as_published()
        if not head:
            return tail
        return f"{tail}; {head}" if tail else head

    def _tail_as_published(self) -> str:
        times = -(-self.seq_len // self.stride)
        if self.tail == "rescored":
            return f"as published: the last {self.stride} targets are scored about {times} times"
        if self.tail == "rescored_whole":
            return f"as published: the last targets are scored up to {times} times"
        return "as published: the end of the split is not scored" if self.tail == "dropped" else ""

    def _head_as_published(self) -> str:
        skipped = self.seq_len - self.stride
        if self.head == "last_stride":
            return f"as published: the first {skipped} targets are not scored"
        behind = f"as published: {max(skipped - self.stride, 0)} targets behind the first window are not scored"
        return behind if self.head == "gap" else ""

    def windows(self, num_tokens: int) -> WindowGrid:
        targets = num_tokens - 1
        return WindowGrid(self.places(targets), lambda place: self.window_at(place, targets))

    def places(self, targets: int) -> range:
        """What `window_at` makes the windows of: where they start, but for a gap behind the first one."""
        if self.tail == "exact":
            end = max(targets - (self.seq_len - self.stride), 1)
        elif self.tail == "rescored":
            end = targets
        elif self.tail == "rescored_whole":
            end = max(targets - self.stride + 1, 1)
        else:
            end = targets - self.seq_len
        return range(0, end - self._gap() if self.head == "gap" else end, self.stride)

    def window_at(self, place: int, targets: int) -> Window:
        start = place + self._gap() if place and self.head == "gap" else place
        length = min(self.seq_len, targets - start)
        if start == 0 and self.head != "last_stride":
            return Window(start, length, 0)
        whole = length if self.tail.startswith("rescored") else self.seq_len
        return Window(start, length, max(whole - self.stride, 0))

    def _gap(self) -> int:
        return max(self.seq_len - 2 * self.stride, 0)


def variant(part: str) -> str:
    """How a published tail or head is named."""
    return "" if part == "exact" else f"_{part}"
