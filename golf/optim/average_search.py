"""Weights on from the end of training, along two averages of its path, as far as the training loss says.

Exported are w + b (w - slow) + a (w - fast), w the last weights. a = -1 alone is the fast average itself, as records
export it; a > 0 goes on where training was going; b between -1 and 0 takes in some of the slow average, which has less
noise. The two depend on each other, so six losses give a quadratic in both, and a seventh is taken where that is
lowest: all on the same batches, the first that training read. The best of the seven counts. All it costs is those
forward passes, for which the training clock keeps time.

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

LAST = (0.0, 0.0)
PLACES = (LAST, (-0.5, 0.0), (0.5, 0.0), (0.0, -1.0), (0.0, 1.0), (-0.5, 1.0))  # (b, a)


class AverageSearch(Ema):
    """A fast and a slow exponential average, and the way from them through the last weights.

    Args:
        decay, horizon_fraction, start_fraction: of the fast average, as for `Ema`.
        slow_fraction: horizon of the slow one, as a share of the steps done so far.
        batches: micro-batches of each rank that every one of the seven losses is the mean of.
        farthest: bound of a from above. From below it is the fast average itself, a = -1; b is within -1 and 1/2.
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
        fastest = 0.0 if decay is not None else horizon_fraction
        if batches < 1 or farthest <= 0 or not fastest < slow_fraction <= 1:
            raise UserError(
                f"average: batches={batches} and farthest={farthest:g} must be positive, slow_fraction="
                f"{slow_fraction:g} above the fast one's {fastest:g} and at most 1; type average.batches=4 "
                "average.slow_fraction=0.4"
            )
        self.slow = Ema(horizon_fraction=slow_fraction, start_fraction=start_fraction)
        self.batches, self.farthest = batches, farthest
        self.settle_batches = (len(PLACES) + 1) * batches
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
            loss: mean loss of the model as it is on that many of the first batches, the same on every rank.
        """
        parameters = dict(model.named_parameters())
        last = {name: parameter.detach().clone() for name, parameter in parameters.items()}

        @torch.no_grad()
        def put(weights: dict[str, Tensor]) -> None:
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])

        def at(place: tuple[float, float]) -> float:
            self.steps = dict(zip(self.steps, place))
            put(self.average(model))
            found = loss(self.batches)
            put(last)
            return math.inf if math.isnan(found) else found

        losses = {place: at(place) for place in PLACES}
        lowest = lowest_place(losses, self.farthest)
        if lowest not in losses:
            losses[lowest] = at(lowest)
        best = min(losses, key=lambda place: losses[place])
        self.steps = dict(zip(self.steps, best))
        told = " ".join(f"{step:+.2f} x (weights - {key})" for key, step in self.steps.items())
        return f"average: weights {told}: training loss {losses[best]:.4f}, of the last weights {losses[LAST]:.4f}"

    def state_dict(self) -> dict[str, Tensor]:
        slow = {f"slow:{name}": value for name, value in self.slow.shadow.items()}
        return {**self.shadow, **slow, "search:steps": torch.tensor(list(self.steps.values()), dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        steps = state["search:steps"].tolist()
        self.steps = dict(zip(self.steps, steps))
        slow = {name.removeprefix("slow:"): value for name, value in state.items() if name.startswith("slow:")}
        self.slow.load_state_dict(slow, device)
        super().load_state_dict({name: value for name, value in state.items() if ":" not in name}, device)


def lowest_place(losses: dict[tuple[float, float], float], farthest: float) -> tuple[float, float]:
    """Where the quadratic through the losses at PLACES is lowest, within -1 <= b <= 1/2 and -1 <= a <= `farthest`; the
    last weights where a loss is no number."""
    last, back, on, fast, beyond, both = (losses[place] for place in PLACES)
    if not math.isfinite(sum(losses.values())):
        return LAST
    slope_b, bend_b = on - back, 2 * (on + back - 2 * last)
    slope_a, bend_a = (beyond - fast) / 2, (beyond + fast - 2 * last) / 2
    cross = 2 * (back + beyond - last - both)

    def height(place: tuple[float, float]) -> float:
        b, a = place
        return slope_b * b + bend_b * b * b + slope_a * a + bend_a * a * a + cross * a * b

    # Inside where the quadratic is a bowl, and else on the edges, where it is a parabola.
    ends_b, ends_a = (-1.0, 0.5), (-1.0, farthest)
    candidates = [(b, a) for b in ends_b for a in ends_a]
    if bend_a > 0:
        candidates += [(b, clamped(-(slope_a + cross * b) / (2 * bend_a), ends_a)) for b in ends_b]
    if bend_b > 0:
        candidates += [(clamped(-(slope_b + cross * a) / (2 * bend_b), ends_b), a) for a in ends_a]
    determinant = 4 * bend_a * bend_b - cross * cross
    if determinant > 0 and bend_a > 0:
        b = (cross * slope_a - 2 * bend_a * slope_b) / determinant
        a = (cross * slope_b - 2 * bend_b * slope_a) / determinant
        if (b, a) == (clamped(b, ends_b), clamped(a, ends_a)):
            return b, a
    return min(candidates, key=height)


def clamped(value: float, ends: tuple[float, float]) -> float:
    return min(max(value, ends[0]), ends[1])
