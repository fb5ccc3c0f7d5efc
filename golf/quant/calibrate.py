"""Calibration data: where the Hessians of a quantisation plan come from. Never the validation split.

A source is a node of the configuration that is handed the training shards, the network and nothing else; there is no
way to name tokens. Reading training data counts as training, so it belongs inside the training clock; text that the
network wrote itself does not (golf/quant/calibration_ledger.py keeps the books, whatever a source says).
Invariant: the batches of a source do not depend on the number of ranks that share them.
Legend: B rows, T time.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from golf.data.shards import Shards
from golf.data.stream import TokenStream
from golf.errors import UserError
from golf.quant.calibration_ledger import require_training_shards
from golf.quant.hessian import collect_hessians


class TrainingTokens:
    """The first windows of an order of the training data (records from 2026-03-29 on: 64 or 16 batches of 48 rows).

    Args:
        order: an option of data/order, called with shards and sizes. The records take the shuffled one.
        batches: how many, over all ranks. rows: of each, as long as training's.
        first_rank_of: take only the batches that the first of so many ranks would see (the records' rank-local
            Hessians, 8 there: a known fault); 1 = batches of the whole order.
    """

    reads_training_data = True

    def __init__(self, order: Callable[..., TokenStream], batches: int = 16, rows: int = 48, first_rank_of: int = 1):
        if batches < 1 or rows < 1 or first_rank_of < 1:
            raise UserError(
                f"quant.calibration: batches={batches} rows={rows} first_rank_of={first_rank_of} must be positive: "
                "type quant.calibration.batches=16"
            )
        self.order, self.batches, self.rows, self.first_rank_of = order, batches, rows, first_rank_of

    def token_batches(self, shards: Shards, seq_len: int, rank: int = 0, world: int = 1) -> Iterator[Tensor]:
        """Token ids [B, T] of this rank's batches."""
        require_training_shards(shards)
        if self.first_rank_of > 1:
            stream = self.order(shards, self.first_rank_of * self.rows * seq_len, seq_len, self.first_rank_of)
            for index in range(rank, self.batches, world):
                yield stream.batch(index, 0, self.first_rank_of).inputs_BT.view(-1, seq_len)
            return
        stream = self.order(shards, self.batches * self.rows * seq_len, seq_len, self.batches)
        for index in range(rank, self.batches, world):
            yield stream.batch(index).inputs_BT.view(-1, seq_len)

    def hessians(self, net: Any, shards: Shards, seq_len: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
        """Hessian of every matrix of the network, summed over ranks."""
        return collect_hessians(net, self.token_batches(shards, seq_len, rank, world))
