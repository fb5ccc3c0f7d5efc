"""The LightningDataModule: an endless training stream that knows its position, and validation windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from golf.data.stream import Batch
from golf.evaluation.windows import derived_batch_tokens, window_batches
from golf.training.module import GolfModule
from golf.training.session import Session


class RankStream:
    """Micro-batches of this rank from the session's step on; the stream is random access, so resuming is exact.

    Lightning takes any iterable: a DataLoader without workers would only add its own time to every step.
    """

    def __init__(self, session: Session):
        self.session = session

    def __iter__(self) -> Iterator[Batch]:
        session = self.session
        micro_step = session.step * session.accumulate
        pin = session.device.type == "cuda"
        while True:
            batch = session.stream.batch(micro_step, session.rank, session.world)
            yield move_batch(batch, Tensor.pin_memory) if pin else batch
            micro_step += 1


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
