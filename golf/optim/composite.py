"""One torch optimizer made of several update rules, because one is what Lightning, checkpoints and people can handle.

Learning rates and momenta are 0-D tensors, set once per step from the schedules. `step` honours the closure.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class UpdateRule(Protocol):
    """Updates the parameters of one group in place from their gradients, keeping what it needs in `state[param]`."""

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any) -> None: ...


class Composite(torch.optim.Optimizer):
    """Args:
    groups: torch parameter groups from `route_parameters` (each names its rule and has a base_lr).
    rules: rule name -> update rule.
    momentum: momentum of rules that use one, until `set_rates` changes it.
    clip_norm: clip the global gradient norm before any update; 0 = off.
    """

    def __init__(
        self, groups: list[dict[str, Any]], rules: dict[str, UpdateRule], momentum: float = 0.95, clip_norm: float = 0.0
    ):
        for group in groups:
            group["lr"] = torch.tensor(float(group["base_lr"]))
            group["momentum"] = torch.tensor(float(momentum))
        super().__init__(groups, defaults={})
        self.rules, self.clip_norm = rules, clip_norm

    def set_rates(self, lr_multiplier: float, momentum: float | None = None) -> None:
        """Set this step's learning rates (base rate times multiplier) and, if given, the momentum."""
        for group in self.param_groups:
            group["lr"].fill_(group["base_lr"] * lr_multiplier)
            if momentum is not None:
                group["momentum"].fill_(momentum)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; with a closure, it is run first (with gradients enabled) and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if self.clip_norm > 0:
                everything = [p for group in self.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(everything, self.clip_norm)
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                if params:
                    self.rules[group["rule"]].update(group, params, [p.grad for p in params], self.state)
        return loss
