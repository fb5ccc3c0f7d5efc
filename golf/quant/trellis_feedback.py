"""What trellis quantisers with error feedback share: Hessians are checked and factorised, jobs are cut, notes are kept.

Invariant: a matrix without a usable Hessian is quantised without feedback, and `notes` says so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.gptq import HessianFactor, factor_hessian
from golf.quant.trellis import TrellisQuantiser, TrellisTensor


class TrellisWithFeedback(TrellisQuantiser):
    """A treatment of a quantisation plan that wants Hessians; `solve` is what subclasses add.

    Args:
        states, factor, rate_weight, trellis: as of `TrellisQuantiser`.
        damping: share of the mean diagonal that is added to a Hessian's diagonal.
        act_order: columns by descending diagonal; otherwise as they are.
    """

    wants_hessian = True

    def __init__(
        self, states: int, factor: float, rate_weight: float, trellis: str, damping: float, act_order: bool = False
    ) -> None:
        super().__init__(states, factor, rate_weight, trellis)
        if not damping > 0:
            raise UserError(f"damping={damping} must be positive: type damping=0.01")
        self.damping, self.act_order = damping, act_order
        self.notes: list[str] = []

    def together(self, shape: tuple[int, ...], device: str) -> int:
        """How many matrices of a shape `solved` gets at a time: a job for one rank and one core."""
        return max(1, self.rows_together(shape[-1], torch.device(device)) // max(1, shape[0]))

    def convert_many(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> list[TrellisTensor]:
        """Matrices of one shape together; `notes` gets what had to be done otherwise than asked."""
        found, notes = self.solved(names, weights, calibrations)
        self.notes += notes
        return found

    def solved(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> tuple[list[TrellisTensor], list[str]]:
        """Matrices of one shape, on the device of their Hessians, and the notes; changes nothing in this object."""
        notes: list[str] = []
        known: dict[int, HessianFactor | None] = {}
        plain: list[int] = []
        solvable: list[tuple[int, HessianFactor]] = []
        for index, (name, weight, hessian) in enumerate(zip(names, weights, calibrations)):
            factor = None
            if hessian is not None and weight.ndim == 2:
                if len(hessian) != weight.shape[1]:
                    raise UserError(
                        f"the Hessian of '{name}' is for {len(hessian)} columns, not {weight.shape[1]}: calibrate again"
                    )
                if id(hessian) not in known:
                    known[id(hessian)] = factor_hessian(hessian, self.damping, act_order=self.act_order)
                factor = known[id(hessian)]
            if factor is None:
                what = "has no Hessian" if hessian is None else "has a Hessian that is not positive definite"
                notes.append(f"{name}: {what}: trellis without error feedback")
                plain.append(index)
                continue
            if factor.growth > 1:
                notes.append(f"{name}: its Hessian needed {factor.growth:g} times the damping")
            solvable.append((index, factor))
        stored: dict[int, TrellisTensor] = {}
        if plain:
            chosen = [names[i] for i in plain], [weights[i] for i in plain]
            stored |= zip(plain, super().convert_many(*chosen, [None] * len(plain)))
        if solvable:
            indices = [index for index, _ in solvable]
            chosen = [names[i] for i in indices], [weights[i] for i in indices]
            found = self.solve(*chosen, [calibrations[i] for i in indices], [factor for _, factor in solvable])
            stored |= zip(indices, found)
        return [stored[index] for index in range(len(names))], notes

    def solve(
        self,
        names: Sequence[str],
        weights: Sequence[Tensor],
        hessians: Sequence[Tensor],
        factors: Sequence[HessianFactor],
    ) -> list[TrellisTensor]:
        """Matrices of one shape whose Hessians are factorised, on their device."""
        raise NotImplementedError(f"{type(self).__name__} has no search of its own")
