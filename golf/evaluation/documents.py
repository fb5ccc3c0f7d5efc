"""Documents of a stream, their windows, and where a position is in its segment."""

from typing import NamedTuple

import numpy as np

from golf.errors import UserError
from golf.evaluation.windows import Window


class DocumentSpan(NamedTuple):
    """tokens[start : start + length]: a BOS, its document, and the next document's BOS; length - 1 targets."""

    start: int
    length: int


def documents_of(tokens: np.ndarray, bos_id: int | None) -> list[DocumentSpan]:
    """Documents in stream order; together their targets are all targets.

    Raises:
        UserError: the tokenizer has no BOS, so documents cannot be told apart.
    """
    if bos_id is None or bos_id < 0:
        raise UserError("this tokenizer has no BOS, so documents cannot be told apart; type eval=sliding, ttt=none")
    num_targets = len(tokens) - 1
    starts = np.flatnonzero(tokens[:-1] == bos_id)
    if not len(starts) or starts[0]:
        starts = np.concatenate([[0], starts])
    ends = np.append(starts[1:], num_targets)
    return [DocumentSpan(int(s), int(e - s) + 1) for s, e in zip(starts, ends)]


def document_windows(span: DocumentSpan, longest: int, stride: int) -> list[Window]:
    """Windows of one document: each ends `stride` targets after the one before and reads at most `longest` tokens."""
    targets = span.length - 1
    ends = [*range(stride, targets, stride), targets]
    found = []
    for before, end in zip([0, *ends[:-1]], ends):
        start = max(0, end - longest)
        found.append(Window(span.start + start, end - start, before - start))
    return found


def segment_positions(boundaries: np.ndarray, length: int) -> np.ndarray:
    """How many tokens of its segment each position [T] of a flat row sees, its own included."""
    positions_T = np.arange(length)
    return positions_T + 1 - boundaries[np.searchsorted(boundaries, positions_T, side="right") - 1]
