"""Block-LDLQ: trellis-coded quantisation with GPTQ's error feedback (arXiv 2210.17323, 2402.04396, 2406.11235).

With U the upper Cholesky factor of the inverse Hessian, columns in blocks B from left to right, e = v - x the error of
a block in units of the row's step, and "rest" the columns after it:

    x_rest += e · U_BB⁻¹ U_B,rest            what makes up best for e, as in GPTQ
    importance of the columns of B = diag(U_BB⁻¹ U_BB⁻ᵀ), over its mean: what an error costs that is so made up for

Within a block the trellis runs along the columns, all rows in parallel, and goes on from the state that the block
before left; each search looks ahead over the next columns, whose choice is made again with their feedback.
Invariant: a Hessian that is a multiple of the identity gives the codes of the plain search. Columns that no input ever
reached become zero. A matrix without a usable Hessian is quantised without feedback, and `notes` says so.
Legend: N matrices, R rows, C columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.gptq import HessianFactor, factor_hessian
from golf.quant.trellis import TrellisQuantiser, TrellisTensor, stacked_matrices


class TrellisLdlq(TrellisQuantiser):
    """A treatment of a quantisation plan that wants Hessians.

    Args:
        states, factor, rate_weight, trellis: as of `TrellisQuantiser`.
        damping: share of the mean diagonal that is added to a Hessian's diagonal.
        block: columns between two feedbacks. lookahead: columns after a block that its search looks at.
    """

    wants_hessian = True

    def __init__(
        self,
        states: int = 32,
        factor: float = 12.85,
        rate_weight: float = 0.35,
        trellis: str = "least_error",
        damping: float = 0.01,
        block: int = 16,
        lookahead: int = 16,
    ) -> None:
        super().__init__(states, factor, rate_weight, trellis)
        if not damping > 0 or block < 1 or lookahead < 0:
            raise UserError(
                f"damping={damping}, block={block}, lookahead={lookahead}: type damping=0.01 block=16 lookahead=16"
            )
        self.damping, self.block, self.lookahead = damping, block, lookahead
        self.notes: list[str] = []

    def convert_many(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> list[TrellisTensor]:
        """Matrices of one shape together, on the device of their Hessians."""
        factors = self.factors(names, weights, calibrations)
        plain = [index for index, factor in enumerate(factors) if factor is None]
        solved = [index for index, factor in enumerate(factors) if factor is not None]
        stored: dict[int, TrellisTensor] = {}
        if plain:
            found = super().convert_many([names[i] for i in plain], [weights[i] for i in plain], [None] * len(plain))
            stored |= zip(plain, found)
        if solved:
            chosen = [factor for factor in factors if factor is not None]
            stored |= zip(solved, self.solve([names[i] for i in solved], [weights[i] for i in solved], chosen))
        return [stored[index] for index in range(len(names))]

    def factors(
        self, names: Sequence[str], weights: Sequence[Tensor], hessians: Sequence[Tensor | None]
    ) -> list[HessianFactor | None]:
        """Each matrix's factor, shared where the Hessian is; None where there is none to use."""
        known: dict[int, HessianFactor | None] = {}
        out = []
        for name, weight, hessian in zip(names, weights, hessians):
            factor = None
            if hessian is not None and weight.ndim == 2:
                if len(hessian) != weight.shape[1]:
                    raise UserError(
                        f"the Hessian of '{name}' is for {len(hessian)} columns, not {weight.shape[1]}: calibrate again"
                    )
                if id(hessian) not in known:
                    known[id(hessian)] = factor_hessian(hessian, self.damping, act_order=False)
                factor = known[id(hessian)]
            if factor is None:
                what = "has no Hessian" if hessian is None else "has a Hessian that is not positive definite"
                self.notes.append(f"{name}: {what}: trellis without error feedback")
            elif factor.growth > 1:
                self.notes.append(f"{name}: its Hessian needed {factor.growth:g} times the damping")
            out.append(factor)
        return out

    def solve(
        self, names: Sequence[str], weights: Sequence[Tensor], factors: Sequence[HessianFactor]
    ) -> list[TrellisTensor]:
        device = factors[0].upper_CC.device
        weight_NRC = stacked_matrices(names, [weight.to(device) for weight in weights])
        N, R, C = weight_NRC.shape
        scale_NR = self.row_scales(weight_NRC.reshape(N * R, C)).reshape(N, R)
        dead_NC = torch.stack([factor.dead_C for factor in factors])
        x_NRC = (weight_NRC / scale_NR[..., None]).masked_fill_(dead_NC[:, None], 0.0)
        upper_NCC = torch.stack([factor.upper_CC for factor in factors])
        importance_NC = torch.cat([self.importance(upper_NCC, start) for start in range(0, C, self.block)], dim=1)
        importance_NC = importance_NC / importance_NC.mean(dim=1, keepdim=True)
        bits = self.rates(x_NRC.reshape(N * R, C), importance_NC.repeat_interleave(R, dim=0))
        together = max(1, self.rows_together(self.block + self.lookahead, device) // R)
        pieces = [
            self.values(x_NRC[first : first + together], upper_NCC[first:], importance_NC[first:], bits)
            for first in range(0, N, together)
        ]
        return self.stored(torch.cat(pieces).reshape(N * R, C), scale_NR.reshape(-1), weights)

    def importance(self, upper_NCC: Tensor, start: int) -> Tensor:
        """What a squared error of each column of a block costs, [N, B]."""
        within = upper_NCC[:, start : start + self.block, start : start + self.block]
        unit = torch.eye(within.shape[-1], device=within.device).expand_as(within)
        return torch.linalg.solve_triangular(within, unit, upper=True).square().sum(dim=-1)

    def values(self, x_NRC: Tensor, upper_NCC: Tensor, importance_NC: Tensor, bits: Tensor) -> Tensor:
        """Values [N, R, C] of scaled weights."""
        N, R, C = x_NRC.shape
        rest_NRC, out_NRC = x_NRC.clone(), torch.empty_like(x_NRC, dtype=torch.int16)
        importance_NRC = importance_NC[:N, None].expand(N, R, C)
        state = torch.zeros(N * R, dtype=torch.int64, device=x_NRC.device)
        for start in range(0, C, self.block):
            end = min(start + self.block, C)
            seen = min(end + self.lookahead, C)
            found, state = self.search.rows(
                rest_NRC[:, :, start:seen].reshape(N * R, -1),
                bits,
                state,
                importance_NRC[:, :, start:seen].reshape(N * R, -1),
                end - start,
            )
            out_NRC[:, :, start:end] = found.reshape(N, R, -1)
            if end < C:
                error_NRB = out_NRC[:, :, start:end] - rest_NRC[:, :, start:end]
                upper_NBC = upper_NCC[:N, start:end, start:]
                back = torch.linalg.solve_triangular(
                    upper_NBC[:, :, : end - start], upper_NBC[:, :, end - start :], upper=True
                )
                rest_NRC[:, :, end:].baddbmm_(error_NRB, back)
        return out_NRC
