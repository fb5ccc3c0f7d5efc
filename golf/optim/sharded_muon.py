"""Muon whose work is shared between ranks: each rank orthogonalises its part of every stack of matrices.

Per stack, largest first: gradients, padded with zero matrices to a multiple of the ranks, are summed and scattered;
each rank updates the momentum of its part and iterates it while the stack before is being gathered; the results are
gathered and applied to all weights. Everything is launched asynchronously. On one rank it is plain Muon.
Invariant: momentum exists once, in parts; `gathered_momentum` turns it into what plain Muon keeps, so that a checkpoint
does not know how many ranks wrote it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from golf.errors import UserError
from golf.optim.banks import by_shape, matrix_count, stacked_as, views_of_bank
from golf.optim.communication import Gathered, ScatteredSum, world_size
from golf.optim.muon import MuonRule


class FlyingStack:
    """One stack of a step: its parameters, which of them have gradients, and the gradients on their way."""

    def __init__(self, members: list[Tensor], dtype: torch.dtype):
        world, count = world_size(), sum(matrix_count(p) for p in members)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in members]
        self.members, self.count = members, count
        self.have_gradient = [p.grad is not None for p in members]
        self.sum = ScatteredSum(stacked_as(grads, dtype, -(-count // world) * world))
        self.part_NRC = torch.empty(0)

    def idle_slots(self, length: int) -> list[int]:
        """Which matrices of this rank's part belong to parameters without a gradient: their momentum stays."""
        first, found, slot = dist.get_rank() * length, [], 0
        for member, has in zip(self.members, self.have_gradient):
            found += [] if has else range(slot, slot + matrix_count(member))
            slot += matrix_count(member)
        return [slot - first for slot in found if first <= slot < first + length]

    def land(self) -> None:
        """Wait for this rank's part of the mean gradient."""
        self.part_NRC = self.sum.wait().div_(world_size())


class ShardedMuonRule(MuonRule):
    """`MuonRule` whose gradients nobody else averages. `reduce_dtype`: float32 | bfloat16, of gradients on the way."""

    sharded = True

    def __init__(self, *arguments: Any, reduce_dtype: str = "bfloat16", **named: Any):
        super().__init__(*arguments, **named)
        if reduce_dtype not in ("float32", "bfloat16"):
            raise UserError(
                f"optim.reduce_dtype={reduce_dtype}: allowed are float32, bfloat16; type optim.reduce_dtype=bfloat16"
            )
        self.reduce_dtype = getattr(torch, reduce_dtype)

    def launch(self, group: dict[str, Any]) -> list[FlyingStack]:
        """Send the gradients of all stacks that have any, largest stack first."""
        stacks = [stack for stack in shard_stacks(group["params"]) if any(p.grad is not None for p in stack)]
        return [FlyingStack(members, self.reduce_dtype) for members in stacks]

    def finish(self, group: dict[str, Any], stacks: list[FlyingStack], state: Any) -> None:
        """Iterate this rank's parts and apply everybody's; the gradients have landed or are landed here."""
        gathering: list[tuple[FlyingStack, Gathered]] = []
        for stack in stacks:
            if not stack.part_NRC.numel():
                stack.land()
            gradient_NRC = stack.part_NRC.to(self.momentum_dtype)
            momentum_NRC = self._shard(stack.members, gradient_NRC, state)
            idle = stack.idle_slots(gradient_NRC.shape[0])
            frozen_NRC = momentum_NRC[idle] if idle else momentum_NRC
            direction_NRC = self.direction(self.updates([gradient_NRC], [momentum_NRC], group["momentum"])[0])
            if idle:
                momentum_NRC[idle] = frozen_NRC
            gathering.append((stack, Gathered(direction_NRC)))
            if len(gathering) > 1:
                self._apply_gathered(group, *gathering.pop(0))
        for stack, gathered in gathering:
            self._apply_gathered(group, stack, gathered)

    def _apply_gathered(self, group: dict[str, Any], stack: FlyingStack, gathered: Gathered) -> None:
        steps_NRC = gathered.wait()[: stack.count].to(stack.members[0].dtype) * group["lr"]
        every = zip(stack.members, views_of_bank(steps_NRC, stack.members), stack.have_gradient)
        updated = [(member, step) for member, step, has in every if has]
        self.apply(group, [member for member, _ in updated], [step for _, step in updated])

    def _shard(self, members: list[Tensor], part_NRC: Tensor, state: Any) -> Tensor:
        """This rank's part of the momentum; taken from whole buffers after a checkpoint, whoever wrote it."""
        first = state[members[0]]
        if "momentum_shard" not in first:
            held = [state[p].pop("momentum_buffer", None) for p in members]
            filled = [torch.zeros_like(p) if buffer is None else buffer for p, buffer in zip(members, held)]
            length, rank = part_NRC.shape[0], dist.get_rank()
            whole_NRC = stacked_as(filled, self.momentum_dtype, length * world_size())
            first["momentum_shard"] = whole_NRC[rank * length : (rank + 1) * length].clone()
        return first["momentum_shard"]

    def gathered_momentum(self, group: dict[str, Any], state: Any) -> dict[Tensor, Tensor]:
        """Whole momentum of every parameter whose stack is sharded. A collective: every rank must call it."""
        found: dict[Tensor, Tensor] = {}
        for members in shard_stacks(group["params"]):
            if "momentum_shard" in state.get(members[0], {}):
                whole_NRC = Gathered(state[members[0]]["momentum_shard"]).wait()
                found.update(zip(members, [view.clone() for view in views_of_bank(whole_NRC, members)]))
        return found


def shard_stacks(params: list[Tensor]) -> list[list[Tensor]]:
    """Parameters by matrix shape, the stack with most numbers first."""
    return sorted(by_shape(params), key=lambda stack: -sum(p.numel() for p in stack))
