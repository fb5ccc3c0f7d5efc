"""Trellis codes (golf/quant/trellis.py) down the columns, with GPTQ's error feedback after every column (2210.17323).

The proxy loss of GPTQ does not couple the rows of a matrix: after the columns before j are decided, column j of all
rows has to be close to what feedback made of it, and the later columns make up for what is left. So a trellis that runs
down the rows of one column loses nothing to the feedback, while one along the columns (block-LDLQ) has to guess within
a block. Columns can go in any order, here by descending diagonal of the Hessian.

    x_j = what feedback made of column j, in units of the rows' steps; walks of `walk_rows` rows, each from state 0
    v_j = least of   sum over rows of importance_j · (x_j - v)^2 + lambda · bits(v | even or odd)
    importance_j = U_jj^-2 over its mean: what an error costs that later columns make up for as well as they can

The walks of all row groups of all matrices are searched side by side. A walk's first values have few states to choose
from: 128 rows cost 0.013 bit per weight against endless walks, 64 rows 0.027 (32 states, Gaussian source).
A weight that is exactly zero (pruned) keeps value 0 and hands on what it was to make up for.
Legend: N matrices, R rows, C columns, G groups of rows, L rows of a group, S walks.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.errors import UserError
from golf.quant.gptq import HessianFactor, solve_columns
from golf.quant.trellis import TrellisTensor, best_scales, stacked_matrices
from golf.quant.trellis_feedback import TrellisWithFeedback
from golf.quant.trellis_search import Survivors
from golf.quant.trellis_states import SHORTEST_WALK, longest_walk

RATE_SAMPLES = 1 << 17
WALK_STATES_TOGETHER = 1 << 13


class TrellisColumns(TrellisWithFeedback):
    """A treatment of a quantisation plan that wants Hessians.

    Args:
        states, factor, rate_weight, trellis: as of `TrellisQuantiser`.
        damping: share of the mean diagonal that is added to a Hessian's diagonal.
        act_order: columns by descending diagonal; otherwise as they are.
        walk_rows: rows of a walk, fewer in matrices of more than 1024 columns. More lose less to its beginning; a file
            takes rows times columns steps to read, whatever its size.
    """

    def __init__(
        self,
        states: int = 32,
        factor: float = 12.85,
        rate_weight: float = 0.35,
        trellis: str = "least_error",
        damping: float = 0.01,
        act_order: bool = True,
        walk_rows: int = 128,
    ) -> None:
        super().__init__(states, factor, rate_weight, trellis, damping, act_order)
        if walk_rows < SHORTEST_WALK:
            raise UserError(f"walk_rows={walk_rows} is too short for a trellis: type walk_rows=128")
        self.walk_rows = walk_rows

    def length(self, rows: int, columns: int) -> int:
        """Rows of a walk in a matrix of that shape: walks are as long as each other, or the last a little shorter."""
        longest = min(self.walk_rows, longest_walk(columns))
        return math.ceil(rows / math.ceil(rows / longest))

    def together(self, shape: tuple[int, ...], device: str) -> int:
        """All walks take a step at once, and a step takes as long for few as for many."""
        rows = WALK_STATES_TOGETHER * self.walk_rows // self.states * (1 if device == "cpu" else 16)
        return max(1, rows // max(1, shape[0]))

    def solve(
        self,
        names: Sequence[str],
        weights: Sequence[Tensor],
        hessians: Sequence[Tensor],
        factors: Sequence[HessianFactor],
    ) -> list[TrellisTensor]:
        device = factors[0].upper_CC.device
        plain_NRC = stacked_matrices(names, [weight.to(device) for weight in weights])
        N, R, C = plain_NRC.shape
        scale_NR = self.row_scales(plain_NRC.reshape(N * R, C)).reshape(N, R)
        order_NC = torch.stack([factor.order_C for factor in factors])
        dead_NC = torch.stack([factor.dead_C for factor in factors])
        weight_NRC = plain_NRC.masked_fill(dead_NC[:, None], 0.0).gather(2, order_NC[:, None].expand(N, R, C))
        upper_NCC = torch.stack([factor.upper_CC for factor in factors])
        importance_NC = upper_NCC.diagonal(dim1=1, dim2=2) ** -2.0
        importance_NC = importance_NC / importance_NC.mean(dim=1, keepdim=True)
        length = self.length(R, C)
        bits = self.rates_of_walks(weight_NRC / scale_NR[..., None], importance_NC, length)

        def nearest(column_NR: Tensor, zero_NR: Tensor, column: int) -> Tensor:
            return self.walked(column_NR, zero_NR, importance_NC[:, column], bits, length)

        ordered_NRC = solve_columns(weight_NRC, upper_NCC, scale_NR, nearest)
        back_NC = torch.argsort(order_NC, dim=1)
        values_NRC = ordered_NRC.gather(2, back_NC[:, None].expand(N, R, C)).to(torch.int16)
        fitted = [best_scales(*each) for each in zip(plain_NRC, values_NRC, scale_NR, hessians)]
        return self.stored(values_NRC.reshape(N * R, C), torch.cat(fitted), weights, length)

    def rates_of_walks(self, x_NRC: Tensor, importance_NC: Tensor, length: int) -> Tensor:
        """Bits of each value, from some columns without their feedback."""
        R = x_NRC.shape[1]
        whole = R // length * length
        x_SL = x_NRC[:, :whole].transpose(1, 2).reshape(-1, length)
        importance_S1 = importance_NC.repeat_interleave(whole // length, dim=1).reshape(-1, 1)
        return self.rates(x_SL, importance_S1, max(1, RATE_SAMPLES // length))

    def walked(self, column_NR: Tensor, zero_NR: Tensor, importance_N: Tensor, bits: Tensor, length: int) -> Tensor:
        """Values [N, R] of one column of every matrix, in walks of `length` rows."""
        N, R = column_NR.shape
        missing = (0, -R % length)
        x_SL = F.pad(column_NR, missing).reshape(-1, length)
        zero_SL = F.pad(zero_NR, missing).reshape(-1, length) if bool(zero_NR.any()) else None
        importance_SL = F.pad(importance_N[:, None].expand(N, R), missing).reshape(-1, length)
        survivors = Survivors(self.search, len(x_SL), length, x_SL.device)
        survivors.advance(x_SL, bits, importance_SL, zero_SL)
        return survivors.values(0).reshape(N, -1)[:, :R].float()
