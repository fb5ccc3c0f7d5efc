"""The last step of a quantisation plan that must be smaller: the cheapest codes of ±1 become 0 (golf/quant/prune.py).

A `correction` like any other, so that a fitted export has an ordinary configuration. Invariant: as its parts'.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from golf.errors import UserError
from golf.quant.protocol import StoredTensor
from golf.quant.prune import zero_cheapest_codes


class CheapestCodes:
    """Zeroes `count` codes over all tensors, those that cost least squared error, after another `correction`."""

    def __init__(self, count: int, correction: Any = None):
        if count < 0:
            raise UserError(f"quant.correction.count={count} must be at least 0: type quant.correction.count=100000")
        self.count, self.inner = count, correction
        self.stored_kind = getattr(correction, "stored_kind", None)

    def apply(self, state: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
        """The tensors, changed where they had such codes."""
        found = dict(stored)
        if self.inner is not None:
            found |= self.inner.apply(state, stored)
        return zero_cheapest_codes(found, self.count)
