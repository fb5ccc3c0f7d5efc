"""The Viterbi algorithm of trellis-coded quantisation, for all rows of many matrices at once, on any device.

A row's values v minimise, over the walks of a trellis (golf/quant/trellis_states.py),

    sum over columns of importance · (x - v)^2 + lambda · bits(v | v even or odd)

Each column costs a handful of elementwise operations on [states, rows]; memory is one bit of choice (a byte) per state,
row and column. Invariant: the result is the best walk there is, among the two values nearest to x in each subset.
Legend: S states, C columns, R rows.
"""

import torch
from torch import Tensor

from golf.quant.trellis_states import next_states

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

    def branches(self, x_RC: Tensor, bits: Tensor, importance_RC: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """For each of the four subsets, the best value at every place and its cost: [4, C, R] each."""
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
        return torch.stack(values), torch.stack(costs)

    def rows(
        self,
        x_RC: Tensor,
        bits: Tensor,
        start: Tensor | None = None,
        importance_RC: Tensor | None = None,
        keep: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Best values of rows in units of the value step.

        Args:
            bits: of each value (`value_bits`).
            start: state of each row before its first column (0).
            importance_RC: weight of each squared error (1).
            keep: return the first so many columns only; the others help to choose them.

        Returns:
            values [R, keep], int16, and the state of each row after them.
        """
        rows, columns = x_RC.shape
        device = x_RC.device
        values, costs = self.branches(x_RC, bits, importance_RC)
        everyone = torch.arange(rows, device=device)
        cost = torch.full((self.states, rows), 1e30, device=device)
        cost[torch.zeros_like(everyone) if start is None else start, everyone] = 0.0
        previous, subset = self.previous.to(device), self.subset.to(device)
        chosen = torch.empty((columns, self.states, rows), dtype=torch.bool, device=device)
        stay, turn, step = torch.empty_like(cost), torch.empty_like(cost), torch.empty_like(cost)
        for column in range(columns):
            branch = costs[:, column]
            torch.index_select(cost, 0, previous[0], out=stay)
            stay += torch.index_select(branch, 0, subset[0], out=step)
            torch.index_select(cost, 0, previous[1], out=turn)
            turn += torch.index_select(branch, 0, subset[1], out=step)
            torch.lt(turn, stay, out=chosen[column])
            torch.minimum(stay, turn, out=cost)
        kept = columns if keep is None else keep
        state = after = cost.argmin(dim=0)
        out = torch.empty((kept, rows), dtype=torch.int16, device=device)
        for column in range(columns - 1, -1, -1):
            if column == kept - 1:
                after = state
            arrival = chosen[column, state, everyone].long()
            if column < kept:
                out[column] = values[subset[arrival, state], column, everyone]
            state = previous[arrival, state]
        return out.t(), after
