"""Mixed precision by sensitivity: the matrices whose inputs are largest get the finer treatment (record of 2026-03-31).

Sensitivity of a matrix = trace of its Hessian (0 where there is none): the size of its inputs. It is the same in
every seed (correlation 0.994 between traces), unlike what single rows tell. Matrices that `always` names come first;
then the largest traces, until `keep` are fine.
Invariant: equal traces keep the order of the tensors.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from golf.errors import UserError


class TraceRanked:
    """Which tensors get the fine treatment; `mixed` of a quantisation plan. The others keep the plan's `matrix`.

    Args:
        fine: a format's name or a quantiser.
        keep: how many tensors get it (32 of 67 in the record).
        always: regular expression of tensors that are among them (the looped layers there).
        names: regular expression of the candidates, among the tensors that the plan's `matrix` treats.
    """

    wants_hessian = True

    def __init__(self, fine: Any, keep: int = 32, always: str = "(?!)", names: str = ""):
        if keep < 0:
            raise UserError(f"quant.mixed.keep={keep} must be at least 0: type quant.mixed.keep=32")
        try:
            self.always, self.names = re.compile(always), re.compile(names)
        except re.error as error:
            raise UserError(f"quant.mixed: '{error.pattern}' is no regular expression ({error}): escape it") from error
        self.grids, self.keep = [fine], keep

    def assigned(
        self,
        grids: Sequence[Any],
        candidates: Sequence[str],
        state: Mapping[str, Tensor],
        hessians: Mapping[str, Tensor],
    ) -> dict[str, int]:
        """The number of the grid (there is one, `fine`) of each tensor that gets it."""
        return dict.fromkeys(self.chosen(candidates, hessians), 0)

    def chosen(self, candidates: Sequence[str], hessians: Mapping[str, Tensor]) -> list[str]:
        """The candidates that get `fine`, most sensitive first."""

        def key(name: str) -> tuple[bool, float]:
            trace = float(hessians[name].diagonal().double().sum()) if hessians.get(name) is not None else 0.0
            return not self.always.search(name), -trace

        return sorted((name for name in candidates if self.names.search(name)), key=key)[: self.keep]
