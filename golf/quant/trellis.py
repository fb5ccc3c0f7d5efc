"""Entropy-coded trellis quantisation of weights (ECTCQ; Ungerboeck 1982, Marcellin & Fischer 1990).

A weight of row r is scale_r · v with an integer v = 2·code + z0. The trellis state fixes z0 along the row (even or odd
values), the code's parity leads to the next state. A row's codes are those with the least

    sum of (w/scale - v)^2 + lambda · bits(v | z0)

found by the Viterbi algorithm for all rows at once. So the values are as dense as with twice the codes, at the rate of
the codes: 0.1 to 0.2 bit per weight less than rounding at equal error. Every row starts in state 0.
Invariant: decoding is a walk through golf/quant/trellis_states.py; no search, nothing else is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.rtn import FLOAT_DTYPES, float_dtype_name
from golf.quant.trellis_states import UNGERBOECK_CODES, next_states

TRELLIS_CODE_MAX = 127
VALUE_MAX = 2 * TRELLIS_CODE_MAX
ROWS_TIMES_STATES = 65_536
WEIGHTS_PER_PASS = 1 << 20
RATE_ROUNDS = 3
RATE_SAMPLE_ROWS = 256


@dataclass(frozen=True)
class TrellisTensor:
    """Codes [.., R, C] int8 and scales [.., R] of a matrix or a stack of matrices, quantised along its rows."""

    codes: Tensor
    scales: Tensor
    states: int
    original_dtype: str

    kind: ClassVar[str] = "trellis"

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scales": self.scales}

    def meta(self) -> dict[str, Any]:
        return {"states": self.states, "dtype": self.original_dtype}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "TrellisTensor":
        if set(meta) != {"states", "dtype"} or set(parts) != {"codes", "scales"}:
            raise ValueError("not a trellis tensor")
        codes, scales = parts["codes"], parts["scales"]
        if type(meta["states"]) is not int or meta["states"] not in UNGERBOECK_CODES:
            raise ValueError("no such trellis")
        if meta["dtype"] not in FLOAT_DTYPES or codes.dtype != torch.int8 or not scales.dtype.is_floating_point:
            raise ValueError("codes and scales do not belong together")
        if codes.ndim not in (2, 3) or scales.shape != codes.shape[:-1]:
            raise ValueError("codes and scales do not belong together")
        return cls(codes, scales, meta["states"], meta["dtype"])

    def cpu(self) -> "TrellisTensor":
        """The same, on the CPU."""
        return TrellisTensor(self.codes.cpu(), self.scales.cpu(), self.states, self.original_dtype)

    def dequantise(self) -> Tensor:
        values = trellis_values(self.codes, self.states).float() * self.scales.float()[..., None]
        return values.to(FLOAT_DTYPES[self.original_dtype])


def trellis_values(codes: Tensor, states: int) -> Tensor:
    """The integers v of codes [.., C], int16, by a walk from state 0."""
    columns = codes.shape[-1]
    by_column = codes.reshape(prod(codes.shape[:-1]), columns).t().to(torch.int16)
    table = torch.from_numpy(next_states(states)).reshape(-1).to(codes.device)
    state = torch.zeros(by_column.shape[1], dtype=torch.int64, device=codes.device)
    values = torch.empty_like(by_column)
    for column in range(columns):
        values[column] = 2 * by_column[column] + (state & 1).to(torch.int16)
        state = table[2 * state + (by_column[column] & 1)]
    return values.t().reshape(codes.shape)


def value_bits(values: Tensor) -> Tensor:
    """Bits of each value -254 … 254 given whether it is even or odd, from a sample; a value never seen costs most."""
    counts = torch.bincount(values.reshape(-1).long() + VALUE_MAX, minlength=2 * VALUE_MAX + 1).float()
    counts = (counts + counts.flip(0)) / 2 + 0.02
    odd = (torch.arange(len(counts), device=counts.device) + VALUE_MAX) % 2 == 1
    return -torch.log2(counts / torch.where(odd, counts[odd].sum(), counts[~odd].sum()))


class TrellisSearch:
    """The Viterbi algorithm along rows.

    Args:
        states: 4, 8, 16, 32 or 64.
        rate_weight: lambda, in squared units of the value step per bit.
    """

    def __init__(self, states: int, rate_weight: float) -> None:
        self.states, self.rate_weight = states, rate_weight
        table = next_states(states)
        arrivals = [
            [(s, z) for s in range(states) for z in (0, 1) if table[s, z] == target] for target in range(states)
        ]
        self.previous = torch.tensor([[s for s, _ in pair] for pair in arrivals]).t().contiguous()
        self.subset = torch.tensor([[2 * z + (s & 1) for s, z in pair] for pair in arrivals]).t().contiguous()

    def branches(self, x_RC: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """For each of the four subsets, the best value at every place and its cost: [4, C, R] each."""
        x = x_RC.t()
        values, costs = [], []
        limit = VALUE_MAX // 4 * 4 - 4
        for subset in range(4):
            near = (torch.round((x - subset) / 4) * 4 + subset).clamp(
                subset - limit // 4 * 4, subset + limit // 4 * 4 - 4
            )
            inner = near - 4 * torch.sign(near)
            found = torch.stack([near, inner])
            cost = (x - found).square() + self.rate_weight * bits[(found + VALUE_MAX).long()]
            best = cost[1] < cost[0]
            values.append(torch.where(best, inner, near).to(torch.int16))
            costs.append(torch.where(best, cost[1], cost[0]))
        return torch.stack(values), torch.stack(costs)

    def rows(self, x_RC: Tensor, bits: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Best values [R, C] of rows in units of the value step, and the state after each row.

        `start`: state of each row before its first column (0).
        """
        rows, columns = x_RC.shape
        values, costs = self.branches(x_RC, bits)
        cost = torch.full((self.states, rows), 1e30)
        cost[torch.zeros(rows, dtype=torch.int64) if start is None else start, torch.arange(rows)] = 0.0
        chosen = torch.empty((columns, self.states, rows), dtype=torch.bool)
        (first, second), (first_subset, second_subset) = self.previous, self.subset
        for column in range(columns):
            branch = costs[:, column]
            stay = cost[first] + branch[first_subset]
            turn = cost[second] + branch[second_subset]
            chosen[column] = turn < stay
            cost = torch.minimum(stay, turn)
        last = cost.argmin(dim=0)
        state = last
        out = torch.empty((columns, rows), dtype=torch.int16)
        everyone = torch.arange(rows)
        for column in range(columns - 1, -1, -1):
            arrival = chosen[column, state, everyone].long()
            out[column] = values[self.subset[arrival, state], column, everyone]
            state = self.previous[arrival, state]
        return out.t(), last


class TrellisQuantiser:
    """A treatment of a quantisation plan.

    Args:
        states: of the trellis; more states are slower to encode (not to decode) and closer to the bound.
        factor: step of the codes in standard deviations of a row, times 31, as in SDClip (k of the records).
        rate_weight: lambda, in squared units of the value step (half a code) per bit.
    """

    def __init__(self, states: int = 8, factor: float = 12.85, rate_weight: float = 0.35) -> None:
        if states not in UNGERBOECK_CODES:
            known = ", ".join(map(str, UNGERBOECK_CODES))
            raise UserError(f"states={states} has no trellis: use one of {known}, as in quant=tcq_8")
        if not factor > 0 or rate_weight < 0:
            raise UserError(f"factor={factor}, rate_weight={rate_weight}: type factor=12.85 rate_weight=0.35")
        self.states, self.factor = states, factor
        self.search = TrellisSearch(states, rate_weight)

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) + 2 * prod(shape[:-1])

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> TrellisTensor:
        return self.convert_many([name], [weight], [calibration])[0]

    def convert_many(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> list[TrellisTensor]:
        """Quantise matrices of one shape; the rates are those of all their codes."""
        shape = weights[0].shape
        if len(shape) not in (2, 3):
            raise UserError(f"tensor '{names[0]}' has no rows to run a trellis along: route it to float16 or int8_rows")
        stacked = torch.stack([weight.detach().float().cpu() for weight in weights])
        x = stacked.reshape(-1, shape[-1])
        if not torch.isfinite(x).all():
            raise UserError("cannot quantise NaN or infinite weights: export an earlier checkpoint")
        spread = x.std(dim=-1) if shape[-1] > 1 else x.abs().amax(dim=-1)
        peak = x.abs().amax(dim=-1) / (VALUE_MAX - 10)
        scale = torch.maximum(self.factor / 62.0 * spread, peak).clamp_min(2.0**-14).to(torch.float16).float()
        values = self.quantise_scaled(x / scale[:, None])
        scale = best_scales(x, values, scale)
        codes = ((values - (values & 1)) // 2).to(torch.int8).reshape(stacked.shape)
        scales = scale.to(torch.float16).reshape(stacked.shape[:-1])
        dtype = float_dtype_name(weights[0].dtype)
        return [TrellisTensor(code.clone(), scale.clone(), self.states, dtype) for code, scale in zip(codes, scales)]

    def quantise_scaled(self, x_RC: Tensor) -> Tensor:
        """Values of rows in units of the value step; rates are learned from a sample of rows first."""
        sample = x_RC[:: max(1, len(x_RC) // RATE_SAMPLE_ROWS)]
        bits = value_bits(torch.round(sample).clamp(-250, 250))
        for _ in range(RATE_ROUNDS):
            bits = value_bits(self.search.rows(sample, bits)[0])
        together = max(1, min(WEIGHTS_PER_PASS // max(1, x_RC.shape[1]), ROWS_TIMES_STATES // self.states))
        pieces = [self.search.rows(piece, bits)[0] for piece in x_RC.split(together)]
        return torch.cat(pieces) if pieces else torch.zeros(x_RC.shape, dtype=torch.int16)


def best_scales(x_RC: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """The scale of each row with the least squared error for its values, where that stays close to the one searched."""
    v = values.float()
    energy = v.square().sum(dim=-1)
    fitted = torch.where(energy > 0, (x_RC * v).sum(dim=-1) / energy.clamp_min(1.0), scale)
    return torch.where((fitted / scale - 1.0).abs() < 0.25, fitted, scale)
