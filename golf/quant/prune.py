"""Zeros: small weights before quantisation, and the cheapest codes after it until a file fits.

Magnitude pruning (record of 2026-03-20): |w| below the 3 % quantile of its tensor becomes 0. Cheapest codes (records of
2026-03-25 and 2026-04-04): zeroing a code of 1 or -1 costs scale² of squared error, so those with the smallest scales
go first. Invariant: both depend on their arguments alone; equal costs keep the order of tensors and elements.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.lowrank import CorrectedTensor
from golf.quant.protocol import StoredTensor
from golf.quant.rtn import QuantisedTensor, cells_of, to_float32


class MagnitudePruning:
    """Zeroes the smallest weights of every large matrix; `prune` of a quantisation plan.

    Args:
        share: of each tensor's weights (0.03 in the record).
        above: only matrices with more elements. names: regular expression of the tensors that may be pruned.
    """

    def __init__(self, share: float = 0.03, above: int = 65_536, names: str = ""):
        if not 0 <= share < 1:
            raise UserError(f"quant.prune.share={share} must be at least 0 and below 1: type quant.prune.share=0.03")
        try:
            self.names = re.compile(names)
        except re.error as error:
            raise UserError(f"quant.prune.names: '{names}' is no regular expression ({error})") from error
        self.share, self.above = share, above

    def apply(self, name: str, weight: Tensor) -> Tensor:
        """The weight as it is to be quantised."""
        if weight.ndim != 2 or weight.numel() <= self.above or not self.names.search(name):
            return weight
        magnitudes = weight.detach().float().abs()
        return weight.detach().masked_fill(magnitudes < quantile_of_all(magnitudes, self.share), 0.0)


def quantile_of_all(values: Tensor, share: float) -> Tensor:
    """Linearly interpolated quantile of a whole tensor: `torch.quantile`, without its limit of 16 M elements."""
    flat = values.flatten()
    rank = to_float32(to_float32(share) * (len(flat) - 1))
    below, above = (torch.kthvalue(flat, index + 1).values for index in (floor(rank), ceil(rank)))
    return torch.lerp(below, above, rank - floor(rank))


def code_costs(stored: QuantisedTensor) -> Tensor:
    """Squared error of zeroing each code that is 1 or -1, flat; infinite for the others."""
    cells = cells_of(stored.codes, stored.format)
    scales = stored.scales.float()
    scales = scales[..., None].expand(cells.shape) if scales.shape == cells.shape[:-1] else scales.expand(cells.shape)
    costs = torch.where(cells.abs() == 1, scales.square(), torch.inf)
    if stored.format.granularity == "group" and stored.format.has_rows(stored.codes.shape):
        costs = costs.flatten(-2)[..., : stored.codes.shape[-1]]
    return costs.flatten()


def cheapest_code_count(tensors: Mapping[str, StoredTensor]) -> int:
    """How many codes `zero_cheapest_codes` could zero."""
    bases = [base for tensor in tensors.values() if (base := integer_codes_of(tensor)) is not None]
    return sum(int((base.codes.abs() == 1).sum()) for base in bases)


def integer_codes_of(tensor: StoredTensor) -> QuantisedTensor | None:
    """The rows of integer codes inside a stored tensor, if it has any."""
    base = tensor.base if isinstance(tensor, CorrectedTensor) else tensor
    return base if isinstance(base, QuantisedTensor) and base.format.number == "integer" else None


def zero_cheapest_codes(tensors: Mapping[str, StoredTensor], count: int) -> dict[str, Any]:
    """The stored tensors with `count` codes of ±1 set to 0 (all of them if there are fewer), smallest scales first."""
    bases = {name: base for name, tensor in tensors.items() if (base := integer_codes_of(tensor)) is not None}
    places, costs = [], []
    for base in bases.values():
        cost = code_costs(base)
        place = torch.nonzero(torch.isfinite(cost)).flatten()
        places.append(place)
        costs.append(cost[place])
    found: dict[str, Any] = dict(tensors)
    if not bases or count <= 0:
        return found
    chosen = torch.zeros(sum(len(place) for place in places), dtype=torch.bool)
    chosen[torch.argsort(torch.cat(costs), stable=True)[:count]] = True
    for (name, base), place, mask in zip(bases.items(), places, chosen.split([len(place) for place in places])):
        codes = base.codes.clone().flatten()
        codes[place[mask]] = 0
        pruned = replace(base, codes=codes.view_as(base.codes))
        whole = tensors[name]
        found[name] = replace(whole, base=pruned) if isinstance(whole, CorrectedTensor) else pruned
    return found
