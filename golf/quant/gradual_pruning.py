"""Sparsity-aware training: gradual magnitude pruning (Zhu & Gupta 2017, arXiv 1710.01878), the group `sparsity`.

    share(t) = S · (1 - (1 - u)³),   u = (t - at) / (until - at), kept within 0 … 1,   t = used share of the budget

Every so many optimizer steps the share(t) of each matrix with the smallest magnitudes becomes zero, and from `at` on a
weight that is zero stays zero, whatever the optimizer does. What zeros cost is what the codec says.
Invariant: the weights after a step follow from those before it, the update and the progress; nothing else is kept, so
that a resumed run, every rank, golf's Trainer and the exported file prune alike. Exact zeros are zeros on every integer
grid; an average of weights gets them back from `keep_zeros`.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.models.roles import roles_of
from golf.progress import Progress


class GradualPruning:
    """Hooks on an optimizer's step that zero the smallest weights.

    Args:
        share: of every chosen matrix's weights that are zero in the end.
        at, until: shares of the budget between which the zeros grow in number. `at` is above 0: matrices that start at
            zero have to move first.
        every_steps: optimizer steps between two prunings.
        names: regular expression, searched in the names of parameters with the role "matrix".
    """

    def __init__(
        self, share: float = 0.5, at: float = 0.2, until: float = 0.8, every_steps: int = 10, names: str = ""
    ) -> None:
        if not 0 < share < 1:
            raise UserError(f"sparsity.share={share} must be above 0 and below 1: type sparsity.share=0.5")
        if not 0 < at < until <= 1:
            raise UserError(
                f"sparsity.at={at} and sparsity.until={until} must be 0 < at < until <= 1 (shares of the budget): "
                "type sparsity.at=0.2 sparsity.until=0.8"
            )
        if every_steps < 1:
            raise UserError(f"sparsity.every_steps={every_steps} must be at least 1: type sparsity.every_steps=10")
        try:
            self.names = re.compile(names)
        except re.error as error:
            raise UserError(f"sparsity.names: '{names}' is not a regular expression ({error}): escape it") from error
        self.share, self.at, self.until, self.every_steps = share, at, until, every_steps
        self.progress: Progress | None = None
        self.zeros: list[Tensor] = []

    def chosen(self, roles: Mapping[str, str]) -> list[str]:
        """Names of the parameters that are pruned.

        Raises:
            UserError: there are none.
        """
        found = [name for name, role in roles.items() if role == "matrix" and self.names.search(name)]
        if not found:
            raise UserError(f"sparsity.names='{self.names.pattern}' matches no matrix: type sparsity.names=''")
        return found

    def share_at(self, progress: Progress) -> float:
        """Share of zeros wanted at this progress."""
        ramp = min(max((progress.fraction - self.at) / (self.until - self.at), 0.0), 1.0)
        return self.share * (1.0 - (1.0 - ramp) ** 3)

    # -- in training ---------------------------------------------------------------------------------------------------
    def attach(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Hook the optimizer's step; nothing happens in it before `set_progress` says that pruning has begun."""
        parameters = dict(net.named_parameters())
        self.weights = [parameters[name] for name in self.chosen(roles_of(net))]
        optimizer.register_step_pre_hook(self.before_step)
        optimizer.register_step_post_hook(self.after_step)

    def set_progress(self, progress: Progress) -> None:
        """Before each optimizer step: how far training is."""
        self.progress = progress if progress.fraction >= self.at else None

    @torch.no_grad()
    def before_step(self, *arguments: Any) -> None:
        """Remember which weights are zero."""
        self.zeros = [] if self.progress is None else [weight == 0 for weight in self.weights]

    @torch.no_grad()
    def after_step(self, *arguments: Any) -> None:
        """Zeros stay zeros; at every so many steps there are more of them."""
        if self.progress is None:
            return
        for weight, zero in zip(self.weights, self.zeros):
            weight.masked_fill_(zero, 0.0)
        if self.progress.step % self.every_steps == 0:
            for weight in self.weights:
                zero_smallest(weight, self.share_at(self.progress))

    # -- after training ------------------------------------------------------------------------------------------------
    def keep_zeros(self, net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An average of `net`'s weights, with zeros where the trained weights are zero."""
        trained, found = dict(net.named_parameters()), dict(state)
        for name in self.chosen(roles_of(net)):
            if name in found:
                found[name] = found[name].masked_fill(trained[name].detach() == 0, 0.0)
        return found

    def prune(self, state: Mapping[str, Tensor], roles: Mapping[str, str]) -> None:
        """Zero the whole `share` at once, in place: what a forecast of the size needs."""
        for name in self.chosen(roles):
            if name in state:
                zero_smallest(state[name], self.share)

    def share_of_zeros(self, state: Mapping[str, Tensor], roles: Mapping[str, str]) -> float:
        """Share of zeros among the chosen weights of a state dict."""
        weights = [state[name] for name in self.chosen(roles)]
        return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        return {"at": self.at}


def zero_smallest(weight: Tensor, share: float) -> None:
    """Zero the `share` of each matrix (last two axes) with the smallest magnitudes, in place; equal ones together."""
    matrices = weight.reshape(-1, weight.shape[-2] * weight.shape[-1]) if weight.ndim > 1 else weight[None]
    count = int(share * matrices.shape[1])
    if count:
        magnitudes = matrices.abs().float()
        largest = torch.kthvalue(magnitudes, count, dim=1, keepdim=True).values
        weight.masked_fill_((magnitudes <= largest).view_as(weight), 0.0)
