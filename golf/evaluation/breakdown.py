"""Where the bits go: exact sums of nats, targets and bytes by context, place in the document, document and shard.

Told of every loss while a stream is scored (context: how many tokens the network had read before the target), and of
the ledger when all is scored (the rest). Sums are float64 and of fixed number, so the memory does not depend on the
stream but for one number per document. Legend: N targets of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from golf.evaluation.bpb import bits_per_byte
from golf.evaluation.ledger import SUM_CHUNK, Ledger
from golf.evaluation.split import bytes_between

CONTEXT_BINS = 64
DOUBLINGS = 32  # bins of places and lengths: 1, 2 … 3, 4 … 7, …


class BinSums:
    """Sums of nats, targets and bytes [3, bins]; bin i holds the values first[i] … first[i + 1] - 1, or `names[i]`."""

    def __init__(self, first: Sequence[int], names: Sequence[str] = ()):
        self.first, self.names = list(first), list(names)
        self.sums = np.zeros((3, len(self.first)), dtype=np.float64)

    def add(self, values_N: np.ndarray, nats_N: np.ndarray, times_N: np.ndarray, bytes_N: np.ndarray) -> None:
        bins_N = np.searchsorted(self.first, values_N, side="right") - 1
        for row, weights_N in enumerate((nats_N, times_N, bytes_N * times_N)):
            self.sums[row] += np.bincount(bins_N, weights=weights_N, minlength=len(self.first))

    def as_list(self) -> list[dict[str, Any]]:
        """Bins that hold a target: what they hold, their sums and their score."""
        found = []
        for index, (nats, targets, in_bytes) in enumerate(self.sums.T):
            if targets:
                last = self.first[index + 1] - 1 if index + 1 < len(self.first) else None
                what = {"name": self.names[index]} if self.names else {"from": self.first[index], "to": last}
                sums = {"nats": nats, "targets": int(targets), "bytes": int(in_bytes)}
                bpb = bits_per_byte(nats, int(in_bytes)) if in_bytes else None
                found.append({**what, **sums, "bpb": bpb})
        return found


class Breakdown:
    """Sums for one scoring of one stream.

    Args:
        tokens, byte_table: of the stream. longest: most tokens that a window reads.
        bos_id: begins documents; None = not known, so there is nothing by document.
        shards: names and numbers of tokens of the files that the stream is made of, in order.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        byte_table: Any,
        longest: int,
        bos_id: int | None = None,
        shards: Sequence[tuple[str, int]] = (),
    ):
        self.tokens, self.byte_table, self.bos_id = tokens, byte_table, bos_id
        self.context = BinSums(range(1, longest + 1, -(-longest // CONTEXT_BINS)))
        doublings = [1 << power for power in range(DOUBLINGS)]
        self.place, self.length = BinSums(doublings), BinSums(doublings)
        lengths = [length for _, length in shards]
        self.shard = BinSums([0, *np.cumsum(lengths)[:-1].tolist()] if shards else [], [name for name, _ in shards])

    def add(self, first_target: int, nats_N: np.ndarray, contexts_N: np.ndarray) -> None:
        """Losses of the targets from first_target on, and how many tokens the network had read before each."""
        begin = first_target - 1
        bytes_N = bytes_between(self.tokens, self.byte_table, begin, begin + len(nats_N))
        self.context.add(contexts_N, nats_N, np.ones(len(nats_N)), bytes_N)

    def finish(self, ledger: Ledger, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        """Take the rest from a ledger that all ranks have filled."""
        if sum_over_ranks is not None:
            self.context.sums = sum_over_ranks(torch.from_numpy(self.context.sums.copy())).cpu().numpy()
        starts = self._document_starts()
        for begin in range(0, ledger.num_targets, SUM_CHUNK):
            end = min(begin + SUM_CHUNK, ledger.num_targets)
            bytes_N = bytes_between(self.tokens, self.byte_table, begin, end)
            sums = (ledger.nats_N[begin:end], ledger.times_N[begin:end], bytes_N)
            targets_N = np.arange(begin + 1, end + 1)
            if self.shard.names:
                self.shard.add(targets_N, *sums)
            if len(starts):
                document_N = np.searchsorted(starts, targets_N, side="left") - 1  # its BOS is before the target
                self.place.add(targets_N - starts[document_N], *sums)
                self.length.add(np.diff(starts, append=ledger.num_targets)[document_N], *sums)
            ledger.release()

    def _document_starts(self) -> np.ndarray:
        """Where documents begin; the stream's beginning is one, whatever it holds."""
        if self.bos_id is None or self.bos_id < 0:
            return np.empty(0, dtype=np.int64)
        found = [np.zeros(1, dtype=np.int64)]
        for begin in range(1, len(self.tokens) - 1, SUM_CHUNK):
            end = min(begin + SUM_CHUNK, len(self.tokens) - 1)
            found.append(begin + np.flatnonzero(self.tokens[begin:end] == self.bos_id))
        return np.concatenate(found)

    def as_dict(self) -> dict[str, Any]:
        """Tables as plain data, by what they are broken down by."""
        return {
            "context": self.context.as_list(),
            "document_position": self.place.as_list(),
            "document_length": self.length.as_list(),
            "shard": self.shard.as_list(),
        }
