"""Windows of a token stream, and how they are dealt to batches and ranks.

A batch has one shape, which depends on its windows only: so a score depends neither on the batch nor on the number of
ranks, and there are few shapes to compile. Windows and batches are made when they are asked for, so the memory does not
grow with the split. Legend: B windows of a batch, T tokens of a window, S scored targets of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

# Logits held at once where batch_tokens is 0: 64 MB of float32 on a CPU (larger batches are slower there), else 512 MB.
CPU_LOGITS, ACCELERATOR_LOGITS, MAX_BATCH_TOKENS = 1 << 24, 1 << 27, 65_536
SHORTEST_ROW = 16


class Window(NamedTuple):
    """The model reads tokens[start : start + length] and predicts the targets start + 1 … start + length.

    Of these, start + 1 + first_scored … start + length are scored; the others are context.
    """

    start: int
    length: int
    first_scored: int


class WindowGrid(Sequence[Any]):
    """Windows that are made from their start when they are asked for."""

    def __init__(self, starts: range, window_at: Callable[[int], Window]):
        self.starts, self.window_at = starts, window_at

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        found = self.starts[index]
        return WindowGrid(found, self.window_at) if isinstance(found, range) else self.window_at(found)


class WindowBatches(Sequence[Any]):
    """Neighbouring windows of one shape, at most batch_tokens tokens of them, as lists; see `window_shape`."""

    def __init__(self, windows: Sequence[Window], batch_tokens: int, longest: int = 0, stride: int = 0):
        self.windows = windows
        self.ends: list[int] = []
        self.shapes: list[tuple[int, int]] = []
        self.scored: list[int] = []
        rows = 0
        for index, window in enumerate(windows):
            shape = window_shape(window, longest, stride)
            rows += 1
            scored = window.length - window.first_scored
            if self.ends and self.shapes[-1] == shape and rows * shape[0] <= batch_tokens:
                self.ends[-1] = index + 1
                self.scored[-1] += scored
            else:
                self.ends.append(index + 1)
                self.shapes.append(shape)
                self.scored.append(scored)
                rows = 1

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return BatchShare(self, range(len(self.ends))[index])
        index = range(len(self.ends))[index]
        return list(self.windows[self.ends[index - 1] if index else 0 : self.ends[index]])

    def tokens_by_shape(self) -> dict[tuple[int, int], int]:
        """Tokens that the network reads in rows of each shape."""
        found: dict[tuple[int, int], int] = {}
        begin = 0
        for end, shape in zip(self.ends, self.shapes):
            found[shape] = found.get(shape, 0) + (end - begin) * shape[0]
            begin = end
        return found


class BatchShare(Sequence[Any]):
    """Some of the batches."""

    def __init__(self, batches: WindowBatches, indices: range):
        self.batches, self.indices = batches, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        found = self.indices[index]
        return BatchShare(self.batches, found) if isinstance(found, range) else self.batches[found]

    @property
    def num_targets(self) -> int:
        return sum(self.batches.scored[index] for index in self.indices)


def padded_width(length: int, longest: int) -> int:
    """Width of the row that a window of `length` tokens is read in: a power of two from 16 on, at most `longest`.

    It depends on nothing but the window, so a score does not depend on the batch; and there are few widths.
    """
    return min(max(SHORTEST_ROW, 1 << max(length - 1, 0).bit_length()), max(longest, length))


def window_shape(window: Window, longest: int = 0, stride: int = 0) -> tuple[int, int]:
    """(tokens of the row, places whose losses are computed): those of the window.

    With `longest` (the most tokens of a window) and `stride` (the most that one scores) padded ones: few shapes.
    """
    if not longest:
        return window.length, window.length - window.first_scored
    width = padded_width(window.length, longest)
    return width, min(stride or width, width) if window.first_scored else width


def rank_share(windows: Sequence[Any], rank: int, world: int, interleaved: bool = False) -> Sequence[Any]:
    """This rank's windows: a contiguous share, sizes differing by at most one (or every world-th window)."""
    if interleaved:
        return windows[rank::world]
    return windows[len(windows) * rank // world : len(windows) * (rank + 1) // world]


def score_batches(windows: Sequence[Window], batch_tokens: int, longest: int = 0, stride: int = 0) -> WindowBatches:
    """Neighbouring windows of one shape in batches of at most batch_tokens tokens."""
    return WindowBatches(windows, batch_tokens, longest, stride)


def window_batches(
    evaluator: Any, num_tokens: int, batch_tokens: int, rank: int = 0, world: int = 1
) -> Sequence[list[Window]]:
    """This rank's windows in batches of one shape: equal length and equal scored part, at most batch_tokens tokens.

    Where batch_tokens is 0, batches are those of a CPU and a small vocabulary.
    """
    batch_tokens = batch_tokens or derived_batch_tokens("cpu", 1024)
    windows = evaluator.windows(num_tokens)
    return score_batches(rank_share(windows, rank, world, evaluator.interleaved), batch_tokens)


def derived_batch_tokens(device: Any, vocab_size: int) -> int:
    """Tokens per forward pass that keep the logits within a fixed memory."""
    logits = CPU_LOGITS if torch.device(device).type == "cpu" else ACCELERATOR_LOGITS
    return min(max(logits // vocab_size, 1), MAX_BATCH_TOKENS)
