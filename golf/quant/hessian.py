"""Second moments of what linear maps multiply: H = sum of x xᵀ over calibration tokens, one per matrix.

    H = (1 / batches) · sum over batches, visits and tokens of x xᵀ,   x in float32

A matrix that several visits of a forward pass use (looped blocks, tied weights) adds up all of them. A tied table is
judged as the output head it is: by the final hidden states. Invariant: the network is unchanged afterwards; ranks that
see parts of the batches get the Hessians of all of them. Sums are in float64: but for a last bit now and then, float32
results do not depend on their order, and so not on the number of ranks.
Legend: B batch, T time, C columns of a matrix.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from golf.models.layers import Linear
from golf.optim.communication import world_size

TOKENS_AT_ONCE = 32_768  # rows of a batch go through the network in parts of about this size


class HessianCollector:
    """Listens to every linear map of a network between `__enter__` and `__exit__`; `sums` by parameter name."""

    def __init__(self, net: Any):
        self.net = net
        self.sums: dict[str, Tensor] = {}
        self.names = {id(parameter): name for name, parameter in net.named_parameters()}
        self.latest: tuple[Any, Any] = (None, None)  # queries, keys and values share one input, and so one product

    def __enter__(self) -> "HessianCollector":
        linears = [module for module in self.net.modules() if isinstance(module, Linear)]
        self.handles = [module.register_forward_pre_hook(self.listen) for module in linears]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()
        self.latest = (None, None)

    def listen(self, module: Any, arguments: tuple[Any, ...]) -> None:
        """A linear map is about to be called with (x) or (x, context)."""
        x, context = arguments[0], arguments[1] if len(arguments) > 1 else None
        right = getattr(module, "right", None)
        if right is not None and getattr(module, "left", None) is not None:  # W = left right
            self.add(right, x)
            self.add(module.left, F.linear(x, right.to(x.dtype)))
        else:
            self.add(module.matrix(context), x)

    def add(self, weight: Tensor, x: Tensor) -> None:
        """Inputs x [..., C] of a weight; weights that are no parameter are left out."""
        name = self.names.get(id(weight))
        if name is None:
            return
        if self.latest[0] is not x:
            flat = x.detach().reshape(-1, x.shape[-1]).float()
            self.latest = (x, flat.T @ flat)
        gram = self.latest[1]
        if name in self.sums:
            self.sums[name] += gram
        else:
            self.sums[name] = gram.to(torch.float32 if gram.device.type == "mps" else torch.float64, copy=True)

    def add_head(self, x_BTD: Tensor) -> None:
        """Final hidden states: what the output head multiplies."""
        embedding = self.net.tok_emb
        if self.net.lm_head is not None:
            self.add(self.net.lm_head.weight, x_BTD)
        elif getattr(embedding, "down", None) is not None:  # a factored table
            self.add(embedding.down.weight, x_BTD)
            self.add(embedding.weight, F.linear(x_BTD, embedding.down.weight.to(x_BTD.dtype)))
        else:
            self.add(embedding.weight, x_BTD)


@torch.no_grad()
def collect_hessians(net: Any, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Hessians [C, C] in float32 by parameter name, on the network's device.

    Args:
        net: a golf network; its evaluation forward in the current depth phase is what is measured.
        batches: token ids [B, T] each: this rank's share of the calibration data.
    """
    was_training, device = net.training, next(net.parameters()).device
    net.eval()
    count = 0
    try:
        with HessianCollector(net) as collector:
            for ids_BT in batches:
                for part_BT in ids_BT.split(max(1, TOKENS_AT_ONCE // ids_BT.shape[1])):
                    collector.add_head(net.hidden(part_BT.to(device)))
                count += 1
    finally:
        net.train(was_training)
    if world_size() > 1:
        total = torch.tensor(float(count), device=device)
        dist.all_reduce(total)
        count = int(total)
        shapes: list[Any] = [None] * world_size()  # a rank without a batch has no sums
        dist.all_gather_object(shapes, {name: total.shape for name, total in collector.sums.items()})
        for name, shape in {name: shape for found in shapes for name, shape in found.items()}.items():
            if name not in collector.sums:
                collector.sums[name] = torch.zeros(shape, dtype=torch.float64, device=device)
        for name in sorted(collector.sums):
            dist.all_reduce(collector.sums[name])
    return {name: (total / max(count, 1)).float() for name, total in collector.sums.items()}
