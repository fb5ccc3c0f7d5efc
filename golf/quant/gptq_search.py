"""GPTQ with a search over clips: of five quantiles of |w|, the one whose plain rounding error is smallest.

    p in {0.999, 0.9995, 0.9999, 0.99999, 1},  scale = max(quantile_p(|row|) / Q, 1/Q),  codes -Q..Q

The whole solve runs for every candidate; what is compared is the mean squared error against the uncompensated weights,
not the Hessian-weighted one (records of 2026-03-25 to 2026-04-04). One clip per matrix there; per row is an option.
"""

import torch
from torch import Tensor

from golf.errors import UserError
from golf.quant.clip import CLIP_SEARCH_SCOPES, ClipSearch
from golf.quant.gptq import Gptq, HessianFactor
from golf.quant.rtn import QuantisedTensor, clip_of_cells, scales_of_cells


class GptqSearch(Gptq):
    """A treatment of a quantisation plan.

    Args:
        bits: 6 or 5 in the records.
        per: "matrix" (one clip for all rows) or "row".
        damping, early_damping, act_order, block: as of `Gptq`; the records of March damp twice.
    """

    def __init__(
        self,
        bits: int = 6,
        per: str = "matrix",
        damping: float = 0.01,
        early_damping: float = 0.0,
        act_order: bool = True,
        block: int = 128,
    ):
        super().__init__(bits, 1.0, 0.0, damping, early_damping, act_order, block)
        if per not in CLIP_SEARCH_SCOPES:
            raise UserError(f"per={per} is not known: type per=matrix or per=row")
        self.per = per
        self.search = ClipSearch(bits, per)
        self.format = self.search.format

    def candidate_scales(self, weight_RC: Tensor, factor: HessianFactor) -> Tensor:
        tried = self.search.candidates()
        return torch.stack([scales_of_cells(clip_of_cells(weight_RC, fmt), True, fmt)[1] for fmt in tried])

    def choose(self, errors_KR: Tensor) -> Tensor:
        if self.per == "row":
            return errors_KR.argmin(dim=0)
        return errors_KR.mean(dim=1).argmin().expand(errors_KR.shape[1])

    def round_to_nearest(self, weight: Tensor) -> QuantisedTensor:
        return self.search.convert("", weight)
