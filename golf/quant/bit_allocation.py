"""Mixed precision by sensitivity: each matrix gets the grid that its errors ask for, under an average number of bits.

Sensitivity of a matrix to a grid = tr((W - Ŵ) diag(H) (W - Ŵ)ᵀ), the error of rounding with columns weighted by the
mean square of their inputs (plain squared error where there is no Hessian). All begin at the coarsest grid; the upgrade
that takes away the most error per bit is done, again and again, while the average allows it. One bit more is a quarter
of the error, so errors are convex in bits and the greedy order is that of the best allocation (Shoham & Gersho 1988).
Invariant: codes need at most `average_bits` per weight of the candidates before compression; ties go by position.
"""

import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from golf.errors import UserError
from golf.quant.formats import FORMAT_NAMES, QuantFormat, format_named
from golf.quant.rtn import quantise_rows


def rounding_error(weight: Tensor, treatment: Any, hessian_CC: Tensor | None = None) -> float:
    """Squared error of rounding to a treatment's grid, columns weighted by their inputs where they are known."""
    grid = treatment if isinstance(treatment, QuantFormat) else getattr(treatment, "format", None)
    if not isinstance(grid, QuantFormat):
        raise UserError(f"{type(treatment).__name__} has no grid to measure: use formats or quantisers with `bits`")
    squared = (weight.double() - quantise_rows(weight, grid).dequantise().to(weight.device).double()).square()
    return float(squared.sum() if hessian_CC is None else (squared * hessian_CC.diagonal().to(squared)).sum())


def bits_of(treatment: Any) -> int:
    """Bits per code of a format, a format's name or a quantiser."""
    if isinstance(treatment, str):
        treatment = format_named(treatment) if treatment in FORMAT_NAMES else None
    found = getattr(getattr(treatment, "format", treatment), "bits", None)
    if not isinstance(found, int):
        raise UserError(
            "quant.mixed.grids: each must have bits: type quant.mixed.grids=[int5_rows,int6_rows,int8_rows]"
        )
    return found


class BitAllocation:
    """Which matrix gets which grid; `mixed` of a quantisation plan.

    Args:
        grids: formats' names or quantisers, in any order of bits.
        average_bits: of the codes of all candidates together, between the fewest and the most bits of the grids.
        names: regular expression of the candidates, among the tensors that the plan's `matrix` treats.
    """

    wants_hessian = True

    def __init__(self, grids: Sequence[Any], average_bits: float = 6.0, names: str = ""):
        self.grids = sorted(grids, key=bits_of)
        bits = [bits_of(grid) for grid in self.grids]
        if not bits or not bits[0] <= average_bits <= bits[-1]:
            raise UserError(
                f"quant.mixed.average_bits={average_bits:g} must lie within the grids' bits {bits}: "
                "type quant.mixed.average_bits=6"
            )
        try:
            self.names = re.compile(names)
        except re.error as error:
            raise UserError(f"quant.mixed.names: '{names}' is no regular expression ({error}): escape it") from error
        self.average_bits = average_bits

    def assigned(
        self,
        grids: Sequence[Any],
        candidates: Sequence[str],
        state: Mapping[str, Tensor],
        hessians: Mapping[str, Tensor],
    ) -> dict[str, int]:
        """The number of the grid (of `grids`: this object's, ready for use) that each candidate gets.

        Tensors without values (a plan's table) are upgraded in order, so that their bytes are right and their names
        a guess.
        """
        names = [name for name in candidates if self.names.search(name)]
        bits = [bits_of(grid) for grid in grids]
        room = sum(state[name].numel() for name in names) * (self.average_bits - bits[0])
        errors = {
            name: None
            if state[name].is_meta
            else [rounding_error(state[name], grid, hessians.get(name)) for grid in grids]
            for name in names
        }
        chosen = dict.fromkeys(names, 0)

        def upgrade(place: int, name: str, level: int) -> tuple[float, int, int]:
            known, weights = errors[name], state[name].numel() * (bits[level] - bits[level - 1])
            gain = 0.0 if known is None else (known[level - 1] - known[level]) / max(weights, 1)
            return (-gain, level, place)

        waiting = [upgrade(place, name, 1) for place, name in enumerate(names) if len(grids) > 1]
        heapq.heapify(waiting)
        while waiting:
            _, level, place = heapq.heappop(waiting)
            name = names[place]
            cost = state[name].numel() * (bits[level] - bits[level - 1])
            if cost > room:
                continue  # a smaller one may still fit
            room -= cost
            chosen[name] = level
            if level + 1 < len(grids):
                heapq.heappush(waiting, upgrade(place, name, level + 1))
        return chosen
