"""Weight averaging. What is averaged is what is exported: `average` hands out a state dict that the pipeline exports.

Exponential moving average: shadow <- d · shadow + (1 - d) · weights after every step, in float32, started at the
initial weights (no bias correction).
"""

import torch
from torch import Tensor, nn

from golf.progress import Progress


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
    def update(self, model: nn.Module, progress: Progress) -> None:
        """Take in the weights after optimizer step `progress.step` - 1."""
        self.start(model)
        weights = dict(model.named_parameters())
        shadows = list(self.shadow.values())
        sources = [weights[name].detach().float() for name in self.shadow]
        torch._foreach_lerp_(shadows, sources, 1.0 - self.decay_at(progress))

    def decay_at(self, progress: Progress) -> float:
        """The decay used at this progress."""
        if progress.fraction < self.start_fraction:
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

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.shadow = {name: tensor.to(device, torch.float32).clone() for name, tensor in state.items()}
