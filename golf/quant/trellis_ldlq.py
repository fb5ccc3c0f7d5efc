"""Block-LDLQ: trellis-coded quantisation with GPTQ's error feedback (arXiv 2210.17323, 2402.04396, 2406.11235).

With U the upper Cholesky factor of the inverse Hessian, columns in blocks from left to right, e = v - x the errors of
the columns W decided so far, in units of the row's step, and "rest" the columns after them:

    x_rest += e · U_WW⁻¹ U_W,rest            what makes up best for e, as in GPTQ
    importance of the columns of a block B = diag(U_BB⁻¹ U_BB⁻ᵀ), over its mean: what an error costs that is made up for

The trellis runs along the columns, all rows in parallel; after each block its best walk so far says what e is. Where a
later block changes the walk's last `revised` columns, the difference is fed back too.
A weight that is exactly zero (pruned) keeps value 0 and hands on what it was to make up for.
Invariant: a Hessian that is a multiple of the identity gives the codes of the plain search.
Legend: N matrices, R rows, C columns, B columns of a block, W columns whose errors are fed back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.gptq import HessianFactor
from golf.quant.trellis import TrellisTensor, best_scales, pruned_places, stacked_matrices
from golf.quant.trellis_feedback import TrellisWithFeedback
from golf.quant.trellis_search import Survivors


class TrellisLdlq(TrellisWithFeedback):
    """A treatment of a quantisation plan that wants Hessians.

    Args:
        states, factor, rate_weight, trellis: as of `TrellisQuantiser`.
        damping: share of the mean diagonal that is added to a Hessian's diagonal.
        block: columns between two feedbacks. revised: columns before a block whose change is fed back.
    """

    def __init__(
        self,
        states: int = 32,
        factor: float = 12.85,
        rate_weight: float = 0.35,
        trellis: str = "least_error",
        damping: float = 0.01,
        block: int = 16,
        revised: int = 48,
    ) -> None:
        super().__init__(states, factor, rate_weight, trellis, damping)
        if block < 1 or revised < 0:
            raise UserError(f"block={block}, revised={revised}: type block=16 revised=48")
        self.block, self.revised = block, revised

    def solve(
        self,
        names: Sequence[str],
        weights: Sequence[Tensor],
        hessians: Sequence[Tensor],
        factors: Sequence[HessianFactor],
    ) -> list[TrellisTensor]:
        device = factors[0].upper_CC.device
        weight_NRC = stacked_matrices(names, [weight.to(device) for weight in weights])
        N, R, C = weight_NRC.shape
        scale_NR = self.row_scales(weight_NRC.reshape(N * R, C)).reshape(N, R)
        x_NRC = weight_NRC / scale_NR[..., None]
        upper_NCC = torch.stack([factor.upper_CC for factor in factors])
        importance_NC = torch.cat([self.importance(upper_NCC, start) for start in range(0, C, self.block)], dim=1)
        importance_NC = importance_NC / importance_NC.mean(dim=1, keepdim=True)
        bits = self.rates(x_NRC.reshape(N * R, C), importance_NC.repeat_interleave(R, dim=0))
        size = self.together((R, C), device.type)
        pieces = [
            self.values(x_NRC[first : first + size], upper_NCC[first:], importance_NC[first:], bits)
            for first in range(0, N, size)
        ]
        values_NRC = torch.cat(pieces)
        fitted = [best_scales(*each) for each in zip(weight_NRC, values_NRC, scale_NR, hessians)]
        return self.stored(values_NRC.reshape(N * R, C), torch.cat(fitted), weights)

    def importance(self, upper_NCC: Tensor, start: int) -> Tensor:
        """What a squared error of each column of a block costs, [N, B]."""
        within = upper_NCC[:, start : start + self.block, start : start + self.block]
        unit = torch.eye(within.shape[-1], device=within.device).expand_as(within)
        return torch.linalg.solve_triangular(within, unit, upper=True).square().sum(dim=-1)

    def values(self, x_NRC: Tensor, upper_NCC: Tensor, importance_NC: Tensor, bits: Tensor) -> Tensor:
        """Values [N, R, C] of scaled weights."""
        N, R, C = x_NRC.shape
        zero_NRC = pruned_places(x_NRC)
        x_NRC = x_NRC.clone()
        fed_NRC = x_NRC.clone()  # what the feedback so far took a column's value for: before any, its target
        survivors = Survivors(self.search, N * R, C, x_NRC.device)
        for start in range(0, C, self.block):
            end, first = min(start + self.block, C), max(0, start - self.revised)
            importance_RB = importance_NC[:N, start:end].repeat_interleave(R, dim=0)
            zero_RB = None if zero_NRC is None else zero_NRC[:, :, start:end].reshape(N * R, -1)
            survivors.advance(x_NRC[:, :, start:end].reshape(N * R, -1), bits, importance_RB, zero_RB)
            if end == C:
                break
            found_NRW = survivors.values(first).reshape(N, R, -1).float()
            fed_NRC[:, :, start:end] = x_NRC[:, :, start:end]
            upper_NWC = upper_NCC[:N, first:end, first:]
            back_NWC = torch.linalg.solve_triangular(
                upper_NWC[:, :, : end - first], upper_NWC[:, :, end - first :], upper=True
            )
            x_NRC[:, :, end:].baddbmm_(found_NRW - fed_NRC[:, :, first:end], back_NWC)
            fed_NRC[:, :, first:end] = found_NRW
        return survivors.values(0).reshape(N, R, C)
