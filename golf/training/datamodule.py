"""The LightningDataModule: an endless training stream that knows its position, and validation windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from golf.data.stream import Batch
from golf.evaluation.windows import derived_batch_tokens, window_batches
from golf.training.module import GolfModule
from golf.training.prefetch import prefetched
from golf.training.session import Session


class RankStream:
    """Micro-batches of this rank from the session's step on; the stream is random access, so resuming is exact.

    Lightning takes any iterable: a DataLoader without workers would only add its own time to every step. On a GPU the
    next batches are made and pinned by a thread. `data_wait_seconds` is how long training waited for a batch, in all.
    """

    def __init__(self, session: Session):
        self.session = session

    def __iter__(self) -> Iterator[Batch]:
        session = self.session
        first = session.step * session.accumulate
        on_gpu = session.device.type == "cuda"
        batches = prefetched(self.pinned_batch, first) if on_gpu else map(self.batch, count(first))
        while True:
            begun = time.perf_counter()
            batch = next(batches)
            waited = session.statistics.get("data_wait_seconds", 0.0)
            session.statistics["data_wait_seconds"] = waited + time.perf_counter() - begun
            yield batch

    def batch(self, micro_step: int) -> Batch:
        session = self.session
        return session.stream.batch(micro_step, session.rank, session.world)

    def pinned_batch(self, micro_step: int) -> Batch:
        return move_batch(self.batch(micro_step), Tensor.pin_memory)


class GolfDataModule(LightningDataModule):
    """One endless epoch of training; validation through windows, never through a sampler."""

    def __init__(self, session: Session, module: GolfModule):
        super().__init__()
        self.session, self.module = session, module

    def train_dataloader(self) -> RankStream:
        return RankStream(self.session)

    def val_dataloader(self) -> DataLoader[Any]:
        batches: Any = []  # lists of windows: a map-style data set as it is
        found = self.module.validation_protocol()
        if found is not None:
            tokens = len(self.module.validation_part())
            plan = self.session.evaluation
            largest = plan.batch_tokens or derived_batch_tokens(self.session.device, self.session.net.vocab_size)
            batches = window_batches(found[1], tokens, largest, self.session.rank, self.session.world)
        return DataLoader(batches, batch_size=None, num_workers=0, collate_fn=lambda windows: windows)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Training batches go to the device; validation windows are positions and stay."""
        if not isinstance(batch, Batch):
            return batch
        return move_batch(batch, lambda tensor: tensor.to(device, non_blocking=True))


def move_batch(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor it has moved; what it does not have stays None."""
    boundaries = None if batch.cu_seqlens is None else move(batch.cu_seqlens)
    return Batch(move(batch.inputs_BT), move(batch.targets_BT), boundaries)
