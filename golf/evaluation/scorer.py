"""Losses of batches of windows: rows made on the host, one forward pass each, compiled where it is worth it.

A network with `nll_at(ids_BT, targets_BT, positions_BS)` computes the scored positions only: its head, and in the last
visit the queries, the output projection and the MLP. Whether a batch is compiled, and how it is padded, follows from
its shape and from what all ranks score together, so a score depends neither on the batch nor on the number of ranks.
Legend: B windows of a batch, T tokens of a row, S places that are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from golf.evaluation.windows import Window, WindowBatches, window_shape

# A shape is compiled (about a minute) if the network multiplies this often in it: minutes of eager work per rank.
COMPILE_FLOPS = {"cpu": 2e13, "cuda": 2e16}
COMPILED_SHAPES = 32  # at most, the ones with the most work; the others run as they are


def is_worth_compiling(model: Any, tokens: int, device: Any) -> bool:
    """Whether a network that reads so many tokens in one shape gains by being compiled for it."""
    multiplications = 2.0 * tokens * sum(parameter.numel() for parameter in model.parameters())
    return multiplications >= COMPILE_FLOPS.get(torch.device(device).type, float("inf"))


class Rows(NamedTuple):
    """A batch on the host: ids and targets [B, T + 1], places [B, S] or None = all; first scored and length [B]."""

    tokens: Tensor
    positions_BS: Tensor | None
    windows: Sequence[Window]
    shape: tuple[int, int]


class Losses(NamedTuple):
    """What a forward pass found: losses [B, S] on the device, row b from position first_B[b] on."""

    nll_BS: Tensor
    first_B: list[int]
    windows: Sequence[Window]

    def by_window(self) -> list[tuple[Window, Tensor]]:
        """Every window and the losses of its scored targets (float64, CPU, [S])."""
        nll_BS = self.nll_BS.to("cpu", torch.float64)
        return [
            (w, nll_BS[b, w.first_scored - first : w.length - first])
            for b, (first, w) in enumerate(zip(self.first_B, self.windows))
        ]


class WindowScorer:
    """See above. `compiled`: compile the shapes that `plan` finds worth it; `whole`: all targets of windows count."""

    def __init__(self, tokens: np.ndarray, device: Any = "cpu", compiled: bool = False, whole: bool = False):
        self.tokens, self.device, self.compiled, self.whole = tokens, torch.device(device), compiled, whole
        self.rows_of: dict[tuple[int, int], int] = {}  # compiled shapes, and how many rows each has
        self.net: Any = None
        self.compile_error = ""  # why everything runs as it is, where compiling was tried and failed
        self._graph: Any = None
        self._ready: set[tuple[int, int]] = set()  # compiled shapes that have run

    def plan(self, model: Any, batches: WindowBatches, batch_tokens: int) -> None:
        """Choose the shapes to compile from the batches of all ranks together."""
        graph = "compiled_whole_losses" if self.whole else "compiled_losses"
        if not self.compiled or not hasattr(model, graph):
            return
        work = sorted(batches.tokens_by_shape().items(), key=lambda item: -item[1])[:COMPILED_SHAPES]
        worth = [shape for shape, count in work if is_worth_compiling(model, count, self.device)]
        self.rows_of = {shape: max(batch_tokens // shape[0], 1) for shape in worth}
        if self.rows_of:
            self.net, self._graph = model, getattr(model, graph)()

    def rows(self, windows: Sequence[Window], longest: int = 0, stride: int = 0) -> Rows:
        """A batch as tensors on the host; windows that are shorter than the row are padded at their end.

        `longest`, `stride` as in `window_shape`; without them the row is as long as the longest window.
        """
        shapes = [window_shape(window, longest, stride) for window in windows]
        width, scored = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
        rows = max(self.rows_of.get((width, scored), 0), len(windows))
        plain = np.zeros((rows, 3), dtype=np.int64)
        plain[: len(windows)] = windows
        start_B1, length_B1, first_B1 = plain[:, :1], plain[:, 1:2], plain[:, 2:]
        places_T = np.arange(width + 1)
        read_BT = np.minimum(start_B1 + places_T, len(self.tokens) - 1)
        ids_BT = np.where(places_T <= length_B1, self.tokens[read_BT], 0).astype(np.int64)
        positions_BS = None
        if not self.whole and 0 < scored < width:
            positions_BS = torch.from_numpy(np.minimum(first_B1 + np.arange(scored), width - 1))
        return Rows(torch.from_numpy(ids_BT), positions_BS, windows, (width, scored))

    def start(self, model: Any, rows: Rows) -> Losses:
        """One forward pass; on a GPU it goes on while this returns."""
        tokens = rows.tokens.to(self.device)
        ids_BT, targets_BT = tokens[:, :-1], tokens[:, 1:]
        at: Any = None if self.whole else getattr(model, "nll_at", None)
        if rows.positions_BS is None or at is None:
            positions_BS, first_B = None, [0] * len(rows.windows)
        else:
            positions_BS, first_B = rows.positions_BS.to(self.device), [w.first_scored for w in rows.windows]
        read = (ids_BT, targets_BT) if self.whole else (ids_BT, targets_BT, positions_BS)
        nll_BS = self._compiled(model, rows.shape, *read)
        if nll_BS is None and at is not None and positions_BS is not None:
            nll_BS = at(ids_BT, targets_BT, positions_BS)
        elif nll_BS is None:
            nll_BS = model(ids_BT, targets_BT, reduction="none")
        return Losses(nll_BS, first_B, rows.windows)

    def first_time(self, shape: tuple[int, int]) -> bool:
        """Whether the next batch of this shape has to be compiled first."""
        return shape in self.rows_of and shape not in self._ready and not self.compile_error

    def _compiled(self, model: Any, shape: tuple[int, int], *tensors: Any) -> Tensor | None:
        """Losses by the compiled graph; None where there is none, also where compiling fails: once, and for good."""
        if shape not in self.rows_of or model is not self.net or self.compile_error:
            return None
        try:
            with torch._dynamo.config.patch(recompile_limit=2 * COMPILED_SHAPES):
                nll_BS = self._graph(*tensors, model.phase, model.quantises())
        except Exception as problem:
            if shape in self._ready:  # it ran before: this is no failure to compile
                raise
            self.compile_error = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"
            return None
        self._ready.add(shape)
        return nll_BS

    def logits(self, model: Any, rows: Rows) -> Iterator[tuple[Window, Tensor]]:
        """Every window and the logits [S, V] (float64) of its scored targets."""
        ids_BT = rows.tokens[:, :-1].to(self.device)
        at = getattr(model, "logits_at", None)
        if rows.positions_BS is None or at is None:
            logits_BSV, first_B = model(ids_BT), [0] * len(rows.windows)
        else:
            logits_BSV, first_B = at(ids_BT, rows.positions_BS.to(self.device)), [w.first_scored for w in rows.windows]
        for b, (first, w) in enumerate(zip(first_B, rows.windows)):
            yield w, logits_BSV[b, w.first_scored - first : w.length - first].double()


def score_windows(
    model: Any, tokens: np.ndarray, windows: Sequence[Window], device: Any, longest: int = 0
) -> list[tuple[int, Tensor]]:
    """First scored target and its losses (float64, CPU, [S]) for every window of one batch."""
    scorer = WindowScorer(tokens, device)
    found = scorer.start(model, scorer.rows(windows, longest)).by_window()
    return [(window.start + 1 + window.first_scored, nll_S) for window, nll_S in found]
