"""Weights on from the end of training, along two averages of its path, as far as the training loss says.

Exported are w + a (w - fast) + b (w - slow), w the last weights. a = -1 alone is the fast average itself, as records
export it; a > 0 goes on where training was going; b between -1 and 0 takes in some of the slow average, which has less
noise. First b, then a is the vertex of the parabola through three training losses, on batches that training has not
read: those that would have come next. On the training clock; all it costs is the forward passes of those losses.

The fast average alone loses to the last weights in short runs and wins in long ones: how far to go is measured, not
chosen. (Averages as directions to go: Lookahead, arXiv:1907.08610, goes along one of them by a fixed share.)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from golf.errors import UserError
from golf.optim.averaging import Ema
from golf.progress import Progress


class AverageSearch(Ema):
    """A fast and a slow exponential average, and the way from them through the last weights.

    Args:
        decay, horizon_fraction, start_fraction: of the fast average, as for `Ema`.
        slow_fraction: horizon of the slow one, as a share of the steps done so far; it is searched first.
        batches: micro-batches of each rank that every loss is the mean of; at most seven losses are taken.
        farthest: bound of a and b from above; the averages themselves (-1) are the bound from below.
    """

    def __init__(
        self,
        decay: float | None = None,
        horizon_fraction: float = 0.06,
        start_fraction: float = 0.0,
        slow_fraction: float = 0.4,
        batches: int = 4,
        farthest: float = 3.0,
    ):
        super().__init__(decay, horizon_fraction, start_fraction)
        if batches < 1 or farthest <= 0 or not 0 < slow_fraction <= 1:
            raise UserError(
                f"average: batches={batches} and farthest={farthest:g} must be positive, slow_fraction="
                f"{slow_fraction:g} above 0 and at most 1; type average.batches=4 average.slow_fraction=0.4"
            )
        self.slow = Ema(horizon_fraction=slow_fraction, start_fraction=start_fraction)
        self.batches, self.farthest = batches, farthest
        self.steps = {"slow": 0.0, "fast": 0.0}

    def start(self, model: nn.Module) -> None:
        """Take the initial weights as the first of both averages, unless they are there already (a resumed run)."""
        super().start(model)
        self.slow.start(model)

    def update(self, model: nn.Module, progress: Progress, lr_multiplier: float = 1.0) -> None:
        """Take in the weights after optimizer step `progress.step` - 1."""
        super().update(model, progress, lr_multiplier)
        self.slow.update(model, progress, lr_multiplier)

    @torch.no_grad()
    def average(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights as far on as was found, by name, each in the dtype of the model's parameter; before the search
        the weights as they are."""
        found = {}
        for name, parameter in model.named_parameters():
            weights = parameter.detach().float()
            moved = weights.clone()
            for step, shadow in ((self.steps["slow"], self.slow.shadow), (self.steps["fast"], self.shadow)):
                if step:
                    moved += step * (weights - shadow[name])
            found[name] = moved.to(parameter.dtype)
        return found

    def settle(self, model: nn.Module, loss: Callable[[int], float]) -> str:
        """Search; the model's weights are as before when it returns, which says what was found.

        Args:
            loss: mean loss of the model as it is on that many of the next batches, the same on every rank.
        """
        parameters = dict(model.named_parameters())
        last = {name: parameter.detach().clone() for name, parameter in parameters.items()}

        @torch.no_grad()
        def put(weights: dict[str, Tensor]) -> None:
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])

        def at(key: str, step: float) -> float:
            self.steps[key] = step
            put(self.average(model))
            found = loss(self.batches)
            put(last)
            return math.inf if math.isnan(found) else found

        first = best = at("slow", 0.0)
        for key in self.steps:
            found = {0.0: best, -1.0: at(key, -1.0), 0.5: at(key, 0.5)}
            vertex = vertex_of(found, self.farthest)
            if vertex not in found:
                found[vertex] = at(key, vertex)
            self.steps[key] = min(found, key=lambda step: found[step])
            best = found[self.steps[key]]
        told = " ".join(f"{step:+.2f} x (weights - {key})" for key, step in self.steps.items())
        return f"average: weights {told}: training loss {best:.4f}, of the last weights {first:.4f}"

    def state_dict(self) -> dict[str, Tensor]:
        slow = {f"slow:{name}": value for name, value in self.slow.shadow.items()}
        return {**self.shadow, **slow, "search:steps": torch.tensor(list(self.steps.values()), dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        steps = state["search:steps"].tolist()
        self.steps = dict(zip(self.steps, steps))
        slow = {name.removeprefix("slow:"): value for name, value in state.items() if name.startswith("slow:")}
        self.slow.load_state_dict(slow, device)
        super().load_state_dict({name: value for name, value in state.items() if ":" not in name}, device)


def vertex_of(losses: dict[float, float], farthest: float) -> float:
    """Where the parabola through the losses at -1, 0 and 1/2 is lowest, from -1 to `farthest`; its lower end where it
    bends downwards, 0 where a loss is no number."""
    before, here, after = losses[-1.0], losses[0.0], losses[0.5]
    if not math.isfinite(before + here + after):
        return 0.0
    bend = 4 / 3 * (after - here) + 2 / 3 * (before - here)
    slope = here - before + bend
    if bend <= 0:
        return farthest if after < before else -1.0
    return min(max(-slope / (2 * bend), -1.0), farthest)
