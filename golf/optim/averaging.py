"""Weight averaging. What is averaged is what is exported: `average` hands out a state dict that the pipeline exports.

Exponential moving average: shadow <- d · shadow + (1 - d) · weights after every step, in float32, started at the
initial weights (no bias correction). Stochastic weight averaging (arXiv:1803.05407): the mean of some late weights.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.progress import Progress


class Averager(Protocol):
    """What a run averages its weights with (config group `average`).

    One that has something to decide when training ends has two more: `settle(model, loss) -> str`, called after the
    last step, on the training clock, which returns what to say of it (`loss(n)` is the model's mean training loss on
    the first n micro-batches of every rank, the same on all ranks); and `settle_batches`, of how many micro-batches it
    takes losses: the clock keeps time for them.
    """

    def start(self, model: nn.Module) -> None:
        """Before the first step, with the initial weights."""

    def update(self, model: nn.Module, progress: Progress, lr_multiplier: float = 1.0) -> None:
        """After optimizer step `progress.step` - 1, whose learning rates were the base rates times `lr_multiplier`."""

    def average(self, model: nn.Module) -> dict[str, Tensor]:
        """Averaged parameters by name, each in the dtype of the model's parameter."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None: ...


class Ema:
    """Exponential moving average of all parameters.

    Args:
        decay: d; the horizon is 1/(1-d) steps. None derives it: the horizon is `horizon_fraction` of the steps done so
            far, so that a short run and a long one average the same share of themselves.
        horizon_fraction: see `decay`.
        start_fraction: share of the budget after which averaging starts; until then the shadow follows the weights.
    """

    def __init__(self, decay: float | None = None, horizon_fraction: float = 0.03, start_fraction: float = 0.0):
        self.decay, self.horizon_fraction, self.start_fraction = decay, horizon_fraction, start_fraction
        self.shadow: dict[str, Tensor] = {}

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Take the initial weights as the first shadow, unless there is one already (a resumed run)."""
        if not self.shadow:
            self.shadow = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, progress: Progress, lr_multiplier: float = 1.0) -> None:
        """Take in the weights after optimizer step `progress.step` - 1."""
        self.start(model)
        weights = dict(model.named_parameters())
        shadows = list(self.shadow.values())
        sources = [weights[name].detach().float() for name in self.shadow]
        torch._foreach_lerp_(shadows, sources, 1.0 - self.decay_at(progress))

    def decay_at(self, progress: Progress) -> float:
        """The decay used at this progress."""
        if self.start_fraction and progress.fraction < self.start_fraction:
            return 0.0
        if self.decay is not None:
            return self.decay
        return 1.0 - 1.0 / max(1.0, self.horizon_fraction * progress.step)

    def average(self, model: nn.Module) -> dict[str, Tensor]:
        """Averaged parameters by name, each in the dtype of the model's parameter."""
        weights = dict(model.named_parameters())
        if not self.shadow:
            return {name: weight.detach().clone() for name, weight in weights.items()}
        return {name: self.shadow[name].to(weight.dtype) for name, weight in weights.items()}

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        return {"start_fraction": self.start_fraction}

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.shadow = {name: tensor.to(device, torch.float32).clone() for name, tensor in state.items()}


class Swa:
    """Uniform mean of the weights after every `every`-th step of the last part of training.

    Args:
        start_multiplier: take weights while the learning rates' multiplier is below this (the records' rule).
        start_fraction: share of the budget before which none are taken. With both, both must hold.
        every: steps between two that are taken.
        dtype: `float32`, or `own`: sums in each tensor's own dtype, as the records did (lossy for bfloat16 tables).
        device: where sums are kept: `cpu`, or `own`, the model's.
    """

    def __init__(
        self,
        start_multiplier: float | None = 0.5,
        start_fraction: float = 0.0,
        every: int = 50,
        dtype: str = "float32",
        device: str = "cpu",
    ):
        for key, value, allowed in (("dtype", dtype, ("float32", "own")), ("device", device, ("cpu", "own"))):
            if value not in allowed:
                raise UserError(
                    f"average.{key}={value}: allowed are {', '.join(allowed)}; type average.{key}={allowed[0]}"
                )
        if every < 1:
            raise UserError(f"average.every={every} must be at least 1; type average.every=50")
        self.start_multiplier, self.start_fraction, self.every = start_multiplier, start_fraction, every
        self.dtype, self.device = dtype, device
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def start(self, model: nn.Module) -> None:
        """Nothing is taken before the end of training comes near."""

    def takes(self, progress: Progress, lr_multiplier: float) -> bool:
        """Whether the weights after step `progress.step` - 1 are part of the mean."""
        if progress.step % self.every or progress.fraction < self.start_fraction:
            return False
        return self.start_multiplier is None or lr_multiplier < self.start_multiplier

    @torch.no_grad()
    def update(self, model: nn.Module, progress: Progress, lr_multiplier: float = 1.0) -> None:
        """Add the weights to the sums if this step is one of those."""
        if not self.takes(progress, lr_multiplier):
            return
        for name, p in model.named_parameters():
            dtype = torch.float32 if self.dtype == "float32" else p.dtype
            value = p.detach().to(p.device if self.device == "own" else "cpu", dtype)
            if name in self.sums:
                self.sums[name].add_(value)
            else:
                self.sums[name] = value.clone()
        self.count += 1

    def average(self, model: nn.Module) -> dict[str, Tensor]:
        """Averaged parameters by name, each in dtype and on the device of the model's parameter."""
        if not self.count:
            return {name: p.detach().clone() for name, p in model.named_parameters()}
        return {name: (self.sums[name] / self.count).to(p.device, p.dtype) for name, p in model.named_parameters()}

    def activation_fractions(self) -> dict[str, float]:
        """Key -> share of the budget from which on it acts."""
        return {"start_fraction": self.start_fraction}

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.sums, "swa.count": torch.tensor(self.count)} if self.count else {}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        place = device if self.device == "own" else "cpu"
        self.count = int(state.get("swa.count", torch.tensor(0)))
        self.sums = {name: tensor.to(place).clone() for name, tensor in state.items() if name != "swa.count"}
