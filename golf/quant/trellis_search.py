"""The Viterbi algorithm of trellis-coded quantisation, for all rows of many matrices at once, on any device.

A row's values v minimise, over the walks of a trellis (golf/quant/trellis_states.py),

    sum over columns of importance · (x - v)^2 + lambda · bits(v | v even or odd)

Each column costs a handful of elementwise operations on [states, rows]; memory is one bit of choice (a byte) per state,
row and column. Invariant: the result is the best walk there is, among the two values nearest to x in each subset.
Places that have to be zero (pruned weights) are so in every result.
Legend: S states, C columns, R rows.
"""

import torch
from torch import Tensor

from golf.quant.trellis_states import next_states

NOT_ZERO_COST = 1e6  # per place that has to be zero; the walk that stays in state 0 never pays it
VALUE_MAX = 254  # of 2 · code + z0 with int8 codes, kept symmetric


def value_bits(values: Tensor) -> Tensor:
    """Bits of each value -254 … 254 given whether it is even or odd, from a sample; a value never seen costs most."""
    counts = torch.bincount(values.reshape(-1).long() + VALUE_MAX, minlength=2 * VALUE_MAX + 1).float()
    counts = (counts + counts.flip(0)) / 2 + 0.02
    odd = (torch.arange(len(counts), device=counts.device) + VALUE_MAX) % 2 == 1
    return -torch.log2(counts / torch.where(odd, counts[odd].sum(), counts[~odd].sum()))


class TrellisSearch:
    """The Viterbi algorithm along rows.

    Args:
        states, trellis: of golf/quant/trellis_states.py.
        rate_weight: lambda, in squared units of the value step per bit.
    """

    def __init__(self, states: int, rate_weight: float, trellis: str = "ungerboeck") -> None:
        self.states, self.rate_weight = states, rate_weight
        table = next_states(states, trellis)
        arrivals = [
            [(s, z) for s in range(states) for z in (0, 1) if table[s, z] == target] for target in range(states)
        ]
        self.previous = torch.tensor([[s for s, _ in pair] for pair in arrivals]).t().contiguous()
        self.subset = torch.tensor([[2 * z + (s & 1) for s, z in pair] for pair in arrivals]).t().contiguous()

    def branches(
        self, x_RC: Tensor, bits: Tensor, importance_RC: Tensor | None = None, zero_RC: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """For each of the four subsets, the best value at every place and its cost: [4, C, R] each.

        Where `zero_RC` is true, the value has to be 0, which the first subset alone has.
        """
        x_CR = x_RC.t().contiguous()
        weight_CR = None if importance_RC is None else importance_RC.t()
        values, costs = [], []
        for subset in range(4):
            near = (torch.round((x_CR - subset) * 0.25) * 4 + subset).clamp_(subset - 248, subset + 244)
            inner = near - 4 * torch.sign(near)
            pair = []
            for found in (near, inner):
                error = (x_CR - found).square_()
                error = error if weight_CR is None else error.mul_(weight_CR)
                pair.append(error.add_(bits[(found + VALUE_MAX).long()], alpha=self.rate_weight))
            better = pair[1] < pair[0]
            values.append(torch.where(better, inner, near).to(torch.int16))
            costs.append(torch.minimum(*pair))
        if zero_RC is not None:
            zero_CR = zero_RC.t()
            values[0].masked_fill_(zero_CR, 0)
            costs[0].masked_fill_(zero_CR, 0.0)  # the same for all walks
            for cost_CR in costs[1:]:
                cost_CR.masked_fill_(zero_CR, NOT_ZERO_COST)
        return torch.stack(values), torch.stack(costs)

    def rows(
        self, x_RC: Tensor, bits: Tensor, importance_RC: Tensor | None = None, zero_RC: Tensor | None = None
    ) -> Tensor:
        """Best values [R, C] of rows in units of the value step, int16; `bits` of each value from `value_bits`."""
        rows, columns = x_RC.shape
        survivors = Survivors(self, rows, columns, x_RC.device)
        survivors.advance(x_RC, bits, importance_RC, zero_RC)
        return survivors.values(0)


class Survivors:
    """The best walk into every state, column by column, for all rows; every row starts in state 0."""

    def __init__(self, search: TrellisSearch, rows: int, columns: int, device: torch.device) -> None:
        self.search, self.done = search, 0
        self.previous, self.subset = search.previous.to(device), search.subset.to(device)
        self.cost_SR = torch.full((search.states, rows), 1e30, device=device)
        self.cost_SR[0] = 0.0
        self.turned_CSR = torch.empty((columns, search.states, rows), dtype=torch.bool, device=device)
        self.branch_values = torch.empty((4, columns, rows), dtype=torch.int16, device=device)

    def advance(
        self, x_RC: Tensor, bits: Tensor, importance_RC: Tensor | None = None, zero_RC: Tensor | None = None
    ) -> None:
        """Go on over the next columns."""
        values, costs = self.search.branches(x_RC, bits, importance_RC, zero_RC)
        columns = x_RC.shape[1]
        self.branch_values[:, self.done : self.done + columns] = values
        cost, (stay, turn, step) = self.cost_SR, torch.empty((3, *self.cost_SR.shape), device=x_RC.device)
        for column in range(columns):
            branch = costs[:, column]
            torch.index_select(cost, 0, self.previous[0], out=stay)
            stay += torch.index_select(branch, 0, self.subset[0], out=step)
            torch.index_select(cost, 0, self.previous[1], out=turn)
            turn += torch.index_select(branch, 0, self.subset[1], out=step)
            torch.lt(turn, stay, out=self.turned_CSR[self.done + column])
            torch.minimum(stay, turn, out=cost)
        self.done += columns

    def values(self, first: int) -> Tensor:
        """Values [R, done - first] of the best walk so far from column `first` on, int16."""
        state = self.cost_SR.argmin(dim=0)
        everyone = torch.arange(len(state), device=state.device)
        out = torch.empty((self.done - first, len(state)), dtype=torch.int16, device=state.device)
        for column in range(self.done - 1, first - 1, -1):
            arrival = self.turned_CSR[column, state, everyone].long()
            out[column - first] = self.branch_values[self.subset[arrival, state], column, everyone]
            state = self.previous[arrival, state]
        return out.t()
