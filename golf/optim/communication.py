"""What optimizers send between ranks: means of gradients, scattered sums, and gathered results.

Invariant: every rank calls these in the same order with the same shapes; which parameters have a gradient in a step is
a function of progress, which all ranks share.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Ranks that train together; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average_over_ranks(tensors: Sequence[Tensor], world: int) -> None:
    """Replace every tensor by its mean over ranks.

    They travel in one flat message per dtype: two copies in the device's memory cost less than many messages' latency.
    """
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        chosen = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.flatten() for t in chosen])
        dist.all_reduce(flat)
        means = flat.div_(world).split([t.numel() for t in chosen])
        torch._foreach_copy_(chosen, [mean.view_as(t) for mean, t in zip(means, chosen)])


class ScatteredSum:
    """A sum over ranks on its way, of which each rank gets its part: `wait` returns [N / world, R, C].

    Where the backend cannot scatter (gloo before torch 2.13), everything is summed everywhere and the part cut out.
    """

    def __init__(self, sent_NRC: Tensor):
        world, self.sent_NRC = dist.get_world_size(), sent_NRC
        part = sent_NRC.shape[0] // world
        newest = getattr(dist, "reduce_scatter_single", None)
        if newest is None and dist.get_backend() == "gloo":
            rank = dist.get_rank()
            self.part_NRC = sent_NRC[rank * part : (rank + 1) * part]
            self.work: Any = dist.all_reduce(sent_NRC, async_op=True)
            return
        self.part_NRC = sent_NRC.new_empty((part, *sent_NRC.shape[1:]))
        self.work = (newest or dist.reduce_scatter_tensor)(self.part_NRC, sent_NRC, async_op=True)

    def wait(self) -> Tensor:
        self.work.wait()
        return self.part_NRC


class Gathered:
    """Parts of all ranks on their way to every rank: `wait` returns [N, R, C]."""

    def __init__(self, part_NRC: Tensor):
        self.part_NRC = part_NRC.contiguous()
        self.all_NRC = part_NRC.new_empty((part_NRC.shape[0] * dist.get_world_size(), *part_NRC.shape[1:]))
        gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        self.work: Any = gather(self.all_NRC, self.part_NRC, async_op=True)

    def wait(self) -> Tensor:
        self.work.wait()
        return self.all_NRC
