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
CPU_LOGITS = 16_777_216
ACCELERATOR_LOGITS = 134_217_728
MAX_BATCH_TOKENS = 65_536
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
    """Neighbouring windows of one shape, as lists that are made when they are asked for; a slice is some of them.

    Batch i is the windows ends[i - 1] … ends[i] - 1 in rows of shapes[i], of which scored[i] targets are scored.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        ends: list[int],
        shapes: list[tuple[int, int]],
        scored: list[int],
        indices: range,
    ):
        self.windows, self.ends, self.shapes, self.scored, self.indices = windows, ends, shapes, scored, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        found = self.indices[index]
        if isinstance(found, range):
            return WindowBatches(self.windows, self.ends, self.shapes, self.scored, found)
        return list(self.windows[self.ends[found - 1] if found else 0 : self.ends[found]])

    @property
    def num_targets(self) -> int:
        return sum(self.scored[index] for index in self.indices)

    def tokens_by_shape(self) -> dict[tuple[int, int], int]:
        """Tokens that the network reads in rows of each shape."""
        found: dict[tuple[int, int], int] = {}
        for index in self.indices:
            rows = self.ends[index] - (self.ends[index - 1] if index else 0)
            found[self.shapes[index]] = found.get(self.shapes[index], 0) + rows * self.shapes[index][0]
        return found


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
    ends: list[int] = []
    shapes: list[tuple[int, int]] = []
    scored: list[int] = []
    rows = 0
    for index, window in enumerate(windows):
        shape = window_shape(window, longest, stride)
        rows += 1
        if not ends or shapes[-1] != shape or rows * shape[0] > batch_tokens:
            ends.append(0)
            shapes.append(shape)
            scored.append(0)
            rows = 1
        ends[-1] = index + 1
        scored[-1] += window.length - window.first_scored
    return WindowBatches(windows, ends, shapes, scored, range(len(ends)))


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
