"""Windows that are known beforehand, scored by a loop that can be read in one go: what exported files do.

`evaluate` (golf/evaluation/protocol.py) serves every protocol, watches the clock and has a ledger that no method can
cheat. Where nothing is learned and no protocol goes its own way, this is all there is to a score: the same windows, the
same networks' losses, sums in float64, and how often each target was scored. Every export is verified to give the BPB
that `evaluate` gave, to 1e-9. Legend: B windows of a batch, T tokens of a window, S scored targets, N targets.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.evaluation.bpb import Score
from golf.evaluation.ledger import Coverage
from golf.evaluation.split import SplitPart, bytes_between
from golf.evaluation.windows import derived_batch_tokens, window_shape


def is_plain(evaluator: Any, model: Any) -> bool:
    """Whether a protocol is nothing but windows, and the network can be asked for the losses at some positions."""
    return not hasattr(evaluator, "run") and hasattr(model, "nll_at")


@torch.no_grad()
def score_plainly(
    model: Any,
    part: SplitPart,
    byte_table: Any,
    evaluator: Any,
    device: Any = "cpu",
    batch_tokens: int = 0,
    rank: int = 0,
    world: int = 1,
    sum_over_ranks: Callable[[Tensor], Tensor] | None = None,
    compiled: bool = False,
) -> tuple[Score, Coverage]:
    """Score the windows of a protocol; arguments as for `evaluate`, of which this is the plain half.

    compiled: compile the network for shapes of more than one batch, which are padded with their last window.
    """
    tokens = part.tokens
    batch_tokens = batch_tokens or derived_batch_tokens(device, model.vocab_size)
    whole, training = getattr(evaluator, "whole", False), model.training
    model.eval()
    losses = torch.compile(model.nll_at, dynamic=False) if compiled else model.nll_at
    nats, times_N = 0.0, np.zeros(len(tokens) - 1, dtype=np.int32)
    for (length, scored), group in groupby(evaluator.windows(len(tokens)), window_shape):
        windows, rows, first = list(group), max(batch_tokens // length, 1), length - scored
        padded = compiled and len(windows) > rows
        run = losses if padded else model.nll_at
        for begin in range(rank * rows, len(windows), world * rows):
            starts = [window.start for window in windows[begin : begin + rows]]
            padding = starts[-1:] * (rows - len(starts)) if padded else []
            ids_BT = tokens[np.array(starts + padding)[:, None] + np.arange(length + 1)].astype(np.int64)
            read_BT = torch.from_numpy(ids_BT).to(device)
            positions_BS = None
            if first and not whole:
                positions_BS = torch.arange(first, length, device=device).expand(len(read_BT), -1)
            nll_BS = run(read_BT[:, :-1], read_BT[:, 1:], positions_BS)
            nats += float(nll_BS[: len(starts)].to("cpu", torch.float64).sum())
            for start in starts:
                times_N[start + first : start + length] += 1
    model.train(training)
    if sum_over_ranks is not None:
        nats = float(sum_over_ranks(torch.tensor(nats, dtype=torch.float64)))
        times_N = sum_over_ranks(torch.from_numpy(times_N)).cpu().numpy()
    bytes_N = bytes_between(tokens, byte_table, 0, len(times_N))
    score = Score(nats, int(times_N.sum()), int((bytes_N * times_N).sum()))
    return score, Coverage(part.split_targets, int((times_N > 0).sum()), int((times_N > 1).sum()))
