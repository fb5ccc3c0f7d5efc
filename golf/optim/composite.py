"""One torch optimizer made of several update rules, because one is what Lightning, checkpoints and people can handle.

Learning rates and momenta are 0-D tensors, set once per step from the schedules. `step` honours the closure.
Gradients arrive averaged over ranks, except those of `reduced_names`, which the optimizer averages itself.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from golf.errors import UserError
from golf.optim.communication import average_over_ranks, world_size

GRADIENT_CLIPS = ("global", "local")


class UpdateRule(Protocol):
    """Updates the parameters of one group, which have gradients, in place; keeps what it needs in `state[param]`.

    A rule that says `sharded` averages its gradients itself where there are several ranks: see `ShardedMuonRule`.
    """

    sharded: bool

    def update(self, group: dict[str, Any], params: list[Any], state: Any) -> None: ...


class Composite(torch.optim.Optimizer):
    """Args:
    groups: torch parameter groups from `route_parameters` (each names its rule and has a base_lr).
    rules: rule name -> update rule.
    momentum: momentum of rules that use one, until `set_momentum` changes it.
    clip_norm: limit of the gradients' norm before any update; 0 = off.
    clip: `global`, the norm of the averaged gradients; `local`, each rank's own before they are averaged (as records
        since 23 March do: stronger, and dependent on the number of ranks).
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        rules: dict[str, Any],
        momentum: float = 0.95,
        clip_norm: float = 0.0,
        clip: str = "global",
    ):
        if clip not in GRADIENT_CLIPS:
            raise UserError(f"optim.clip={clip}: allowed are {', '.join(GRADIENT_CLIPS)}; type optim.clip=global")
        for group in groups:
            group["lr"] = torch.tensor(float(group["base_lr"]))
            group["momentum"] = torch.tensor(float(momentum))
        super().__init__(groups, defaults={})
        self.rules, self.clip_norm, self.clip = rules, clip_norm, clip
        self.lr_multiplier = 1.0  # of the step that is next or was last

    def set_rates(
        self, lr_multiplier: float, momentum: float | None = None, weight_decay_multiplier: float | None = None
    ) -> None:
        """Set this step's learning rates and, if given, momentum and matrices' decay."""
        self.set_lr(lr_multiplier)
        if momentum is not None:
            self.set_momentum(momentum)
        if weight_decay_multiplier is not None:
            self.set_weight_decay(weight_decay_multiplier)

    def set_lr(self, multiplier: float) -> None:
        """Learning rates: the base rate of each group times this."""
        self.lr_multiplier = float(multiplier)
        for group in self.param_groups:
            group["lr"].fill_(group["base_lr"] * multiplier)

    def set_momentum(self, momentum: float) -> None:
        """Momentum of the rules that use one."""
        for group in self.param_groups:
            group["momentum"].fill_(momentum)

    def set_weight_decay(self, multiplier: float) -> None:
        """Weight decay of the matrices: what their group says times this, which is 1 until it is set."""
        for group in self.param_groups:
            group["weight_decay_multiplier"] = float(multiplier)

    @property
    def reduces(self) -> bool:
        """Whether `step` averages the gradients itself where there are several ranks."""
        sharded = any(self.rules[group["rule"]].sharded for group in self.param_groups)
        return sharded or (self.clip == "local" and self.clip_norm > 0)

    @property
    def reduced_names(self) -> frozenset[str]:
        """Names of parameters whose gradients nobody else may average."""
        if not self.reduces:
            return frozenset()
        return frozenset(name for group in self.param_groups for name in group.get("names", ()))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; with a closure, it is run first (with gradients enabled) and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            world = world_size()
            if world > 1 and self.reduces:
                self._step_reducing(world)
            else:
                if self.clip_norm > 0:
                    torch.nn.utils.clip_grad_norm_(self._parameters(), self.clip_norm)
                for group in self.param_groups:
                    self._update(group)
        return loss

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _update(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if params:
            self.rules[group["rule"]].update(group, params, self.state)

    def _step_reducing(self, world: int) -> None:
        """The step of an optimizer that averages itself: what is sharded travels while the rest is done."""
        if self.clip == "local" and self.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._parameters(), self.clip_norm)
        sharded = [group for group in self.param_groups if self.rules[group["rule"]].sharded]
        others = [group for group in self.param_groups if not self.rules[group["rule"]].sharded]
        flying = [self.rules[group["rule"]].launch(group) for group in sharded]
        grads = [p.grad for group in others for p in group["params"] if p.grad is not None]
        average_over_ranks(grads, world)
        if self.clip == "global" and self.clip_norm > 0:
            self._clip_parts(grads, [stack for stacks in flying for stack in stacks])
        for group in others:
            self._update(group)
        for group, stacks in zip(sharded, flying):
            self.rules[group["rule"]].finish(group, stacks, self.state)

    def _clip_parts(self, grads: list[Tensor], stacks: list[Any]) -> None:
        """Clip by the norm of all averaged gradients: each rank has some whole, and its parts of the others."""
        for stack in stacks:
            stack.land()
        parts = [stack.part_NRC for stack in stacks]
        square = torch.stack([p.float().square().sum() for p in parts]).sum() if parts else torch.zeros(())
        if parts:
            dist.all_reduce(square)
        norms = torch._foreach_norm(grads) if grads else ()
        total = torch.stack([square, *(norm.float().square() for norm in norms)]).sum().sqrt()
        factor = (self.clip_norm / (total + 1e-6)).clamp(max=1.0)
        for tensor in [*grads, *parts]:
            tensor.mul_(factor)

    def state_dict(self) -> dict[str, Any]:
        """As every torch optimizer's, with whole momenta. Where they are sharded it is a collective of all ranks."""
        packed = super().state_dict()
        packed["state"] = {index: dict(held) for index, held in packed["state"].items()}
        index_of = {p: index for index, p in enumerate(self._parameters())}
        for group in self.param_groups:
            if self.rules[group["rule"]].sharded and world_size() > 1:
                whole = self.rules[group["rule"]].gathered_momentum(group, self.state)
                for parameter, momentum in whole.items():
                    held = packed["state"].setdefault(index_of[parameter], {})
                    held.pop("momentum_shard", None)
                    held["momentum_buffer"] = momentum
        return packed
