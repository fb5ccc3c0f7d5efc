"""Quantisation-aware training: from some point on, linear maps multiply with the weights that the export would hold.

Start and slope are pure functions of progress, so that a resumed run goes on as if it had never stopped and all ranks
switch at the same step. By default a matrix is rounded to the format that the run's own quantisation plan gives it.
Invariant: `net.quantise` says whether training forwards are fake-quantised; scores see the plain weights unless
`validate` says otherwise (`net.quantise_when_scoring`).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from golf.errors import UserError
from golf.models.layers import Linear
from golf.models.linear.blocks import put_operation
from golf.models.roles import roles_of
from golf.progress import Progress
from golf.quant.fake_quant import ROUNDINGS
from golf.quant.formats import QuantFormat
from golf.quant.plan import QuantPlan
from golf.quant.qat_linear import QatLinear
from golf.quant.training_formats import training_format_named


class Qat:
    """Fake quantisation of linear maps, switched on by progress: every start that is given has to be reached.

    Args:
        plan: the run's quantisation plan; tells each tensor's format.
        format: a format's name or a QuantFormat for all chosen tensors, in place of the plan's.
        linears: regular expression, searched in the names of weights (`blocks.0.attn.c_q.weight`).
        at: share of the budget.
        lr_below: multiplier of the learning rate; only falls in the second half of the budget count, not the warm-up.
        lr: the run's schedule of that multiplier, needed with `lr_below`.
        start_step: optimizer step.
        rounding: "ste", "soft" or "noise" (golf/quant/fake_quant.py).
        alpha_start, alpha_end, alpha_steps: slope of soft rounding, a linear ramp over the steps after the start.
        round_first: weights are rounded to the compute type before the grid is laid (records with autocast).
        validate: validation sees the fake-quantised weights, too.
    """

    def __init__(
        self,
        plan: QuantPlan,
        format: str | QuantFormat | None = None,
        linears: str = r"^blocks\.",
        at: float | None = None,
        lr_below: float | None = None,
        lr: Callable[[Progress], float] | None = None,
        start_step: int | None = None,
        rounding: str = "ste",
        alpha_start: float = 1.0,
        alpha_end: float = 16.0,
        alpha_steps: int = 500,
        round_first: bool = False,
        validate: bool = False,
    ):
        if at is None and lr_below is None and start_step is None:
            raise UserError("qat has no start: type qat.at=0.85 (share of the budget), qat.lr_below or qat.start_step")
        if at is not None and not 0 <= at < 1:
            raise UserError(f"qat.at={at} must be at least 0 and below 1 (1 is the end of training); type qat.at=0.85")
        if lr_below is not None and lr is None:
            raise UserError("qat.lr_below needs the schedule: type qat.lr='${schedule.lr}', or qat.at=0.85 instead")
        if rounding not in ROUNDINGS:
            raise UserError(f"qat.rounding={rounding} is not known: type qat.rounding=ste, soft or noise")
        try:
            self.linears = re.compile(linears)
        except re.error as error:
            raise UserError(f"qat.linears: '{linears}' is not a regular expression ({error}): escape it") from error
        self.plan, self.rounding, self.round_first, self.validate = plan, rounding, round_first, validate
        self.format = training_format_named(format) if isinstance(format, str) else format
        self.at, self.lr_below, self.lr, self.start_step = at, lr_below, lr, start_step
        self.alpha_start, self.alpha_end, self.alpha_steps = alpha_start, alpha_end, alpha_steps
        self.net: Any = None
        self.formats: dict[str, QuantFormat] = {}

    def attach(self, net: Any) -> None:
        """Put the operation on the chosen linear maps of a network that is on its device.

        Raises:
            UserError: nothing is chosen, the plan rounds nothing of it, or a linear map has another operation.
        """
        if not hasattr(net, "quantise"):  # a switch that nothing reads would be a technique that never ran
            raise UserError(f"{type(net).__name__} has no forward with fake-quantised weights; type qat=none")
        chosen = {f"{name}.weight": module for name, module in net.named_modules() if isinstance(module, Linear)}
        chosen = {name: module for name, module in chosen.items() if self.linears.search(name)}
        if not chosen:
            raise UserError(f"qat.linears='{self.linears.pattern}' matches no linear map: type qat.linears='^blocks'")
        roles = roles_of(net)
        for name, module in chosen.items():
            fmt = self.format or self.format_of_plan(name, module, roles)
            if fmt is not None:
                put_operation(name, module, QatLinear(fmt, self.rounding, self.round_first))
                self.formats[name] = fmt
        if not self.formats:
            raise UserError(
                f"qat rounds nothing: quant keeps all {len(chosen)} matrices as numbers (those with up to "
                f"quant.small_numel={self.plan.small_numel} elements too); type quant.small_numel=0, "
                "quant=int6_rows or qat=none"
            )
        device = next(net.parameters()).device
        net.softness = torch.tensor(self.alpha_start, device=device) if self.rounding == "soft" else None
        net.quantise, net.quantise_when_scoring = False, self.validate
        self.net = net

    def format_of_plan(self, name: str, module: Linear, roles: dict[str, str]) -> QuantFormat | None:
        """The format under which the plan exports a matrix; None where it stays a number."""
        shape = (module.out_features, module.in_features)
        treatment = self.plan.route(name, torch.empty(shape, device="meta"), roles.get(name, "matrix"))
        treatment = getattr(treatment, "format", treatment)  # an algorithm says what grid its codes are on
        return treatment if isinstance(treatment, QuantFormat) else None

    def is_on(self, progress: Progress) -> bool:
        """Whether every start that is given has been reached."""
        reached = []
        if self.at is not None:
            reached.append(progress.fraction >= self.at)
        if self.start_step is not None:
            reached.append(progress.step >= self.start_step)
        if self.lr_below is not None and self.lr is not None:
            reached.append(progress.fraction >= 0.5 and self.lr(progress) < self.lr_below)
        return all(reached)

    def steps_on(self, progress: Progress) -> int:
        """Steps since the start, from this progress alone: earlier steps are taken to have been equally fast."""
        low, high = 0, progress.step  # on at `high`
        while low < high:
            middle = (low + high) // 2
            share = middle / progress.step
            earlier = replace(
                progress, step=middle, seconds=progress.seconds * share, tokens=round(progress.tokens * share)
            )
            low, high = (low, middle) if self.is_on(earlier) else (middle + 1, high)
        return progress.step - low

    def alpha(self, progress: Progress) -> float:
        """Slope of soft rounding."""
        ramp = min(self.steps_on(progress) / self.alpha_steps, 1.0) if self.alpha_steps else 1.0
        return self.alpha_start + (self.alpha_end - self.alpha_start) * ramp

    def set_progress(self, progress: Progress) -> None:
        """Before each optimizer step: choose the forward, and set the slope on the device."""
        self.net.quantise = self.is_on(progress)
        if self.net.quantise and self.net.softness is not None:
            self.net.softness.fill_(self.alpha(progress))

    def forwards(self) -> tuple[bool, ...]:
        """Values that `net.quantise` will have: what a warm-up has to run once each."""
        from_the_first_step = not self.at and not self.start_step and self.lr_below is None
        return (True,) if from_the_first_step else (False, True)

    def activation_fractions(self) -> list[float]:
        """Shares of the budget at which something switches."""
        return [] if self.at is None else [self.at]
