"""Windows that are known beforehand, scored by a loop that can be read in one go: what exported files do.

`evaluate` (golf/evaluation/protocol.py) serves every protocol, watches the clock and has a ledger that no method can
cheat. Where nothing is learned and no protocol goes its own way, this is all there is to a score: the same windows, the
same networks' losses, sums in float64, and how often each target was scored. Every export is verified to give the BPB
that `evaluate` gave, to 1e-9. Legend: B windows of a batch, T tokens of a window, S scored targets, N targets.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.evaluation.scorer import is_worth_compiling
from golf.evaluation.split import count_target_bytes
from golf.evaluation.windows import derived_batch_tokens


def is_plain(evaluator: Any, model: Any) -> bool:
    """Whether a protocol is nothing but windows, and the network can be asked for the losses at some positions."""
    return not hasattr(evaluator, "run") and hasattr(model, "nll_at")


def score_plainly(
    model: Any,
    tokens: np.ndarray,
    byte_table: Any,
    evaluator: Any,
    device: Any = "cpu",
    batch_tokens: int = 0,
    rank: int = 0,
    world: int = 1,
    sum_over_ranks: Callable[[Tensor], Tensor] | None = None,
    compiled: bool = False,
) -> tuple[float, int, np.ndarray]:
    """Score the windows of a protocol; arguments as for `evaluate`, of which this is the plain half.

    compiled: compile the network for shapes that are worth it; their batches are padded with their last window.

    Returns:
        Nats and bytes of everything scored, and how often each target was.
    """
    most_tokens = batch_tokens or derived_batch_tokens(device, model.vocab_size)
    whole, training = getattr(evaluator, "whole", False), model.training
    model.eval()
    losses = torch.compile(model.nll_at, dynamic=False) if compiled else model.nll_at
    nats, times_N = 0.0, np.zeros(len(tokens) - 1, dtype=np.int32)
    for (length, first), group in groupby(windows_of(evaluator, len(tokens) - 1), itemgetter(1, 2)):
        starts, rows = [window.start for window in group], max(most_tokens // length, 1)
        for start in starts:
            times_N[start + first : start + length] += 1
        padded = compiled and is_worth_compiling(model, len(starts) * length, device)
        run = losses if padded else model.nll_at
        for begin in range(rank * rows, len(starts), world * rows):
            own = starts[begin : begin + rows]
            read = own + own[-1:] * (rows - len(own)) if padded else own
            ids_BT = tokens[np.array(read)[:, None] + np.arange(length + 1)].astype(np.int64)
            ids_BT = torch.from_numpy(ids_BT).to(device)
            positions_BS = None
            if not whole and first:
                positions_BS = torch.arange(first, length, device=device).expand(len(read), -1)
            with torch.no_grad():
                nll_BS = run(ids_BT[:, :-1], ids_BT[:, 1:], positions_BS)
            nats += float(nll_BS[: len(own)].to("cpu", torch.float64).sum())
    model.train(training)
    if sum_over_ranks is not None:
        nats = float(sum_over_ranks(torch.tensor(nats, dtype=torch.float64)))
    at_once = hasattr(byte_table, "count_stream")
    bytes_N = byte_table.count_stream(tokens) if at_once else count_target_bytes(tokens, byte_table)
    return nats, int((bytes_N * times_N).sum()), times_N


def windows_of(evaluator: Any, targets: int) -> Any:
    """All windows at once, where the protocol can make each of them."""
    if not hasattr(evaluator, "window_at"):
        return evaluator.windows(targets + 1)
    return [evaluator.window_at(place, targets) for place in evaluator.places(targets)]
