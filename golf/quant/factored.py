"""A matrix stored as two factors from its singular values, A [R, r] and B [r, C], each rounded to a few bits.

    W = U S Vᵀ,  A = U_r sqrt(S_r), rows of A with a scale a_i each;  B = sqrt(S_r) V_rᵀ, columns with a scale b_j each
    W_ij ~ a_i b_j · sum_r A_ir B_rj   (codes)

R C numbers become r (R + C): worth it where a matrix has little beyond its first singular values.
Invariant: the sum is one of small integers, exact in float32 in any order, so that every machine decodes the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from golf.codec.layout import FLOAT_DTYPES, dtype_name, torch_dtype
from golf.errors import UserError
from golf.quant.formats import absmax_rows
from golf.quant.rtn import QuantisedTensor, quantise_rows
from golf.quant.shared_work import singular_values

LARGEST_EXACT_SUM = 2**24
FACTOR_PARTS = ("left_codes", "left_scales", "right_codes", "right_scales")


@dataclass(frozen=True)
class FactoredTensor:
    """Codes and scales of A [R, r] and of the transpose of B [C, r]."""

    left: QuantisedTensor
    right: QuantisedTensor
    original_dtype: str

    kind: ClassVar[str] = "factored"

    def parts(self) -> dict[str, Tensor]:
        left, right = self.left, self.right
        return dict(zip(FACTOR_PARTS, (left.codes, left.scales, right.codes, right.scales)))

    def meta(self) -> dict[str, Any]:
        return {"left": self.left.meta(), "right": self.right.meta(), "dtype": self.original_dtype}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "FactoredTensor":
        if set(meta) != {"left", "right", "dtype"} or set(parts) != set(FACTOR_PARTS):
            raise ValueError("not a factored tensor")
        sides = [
            QuantisedTensor.from_parts(meta[side], {"codes": parts[f"{side}_codes"], "scales": parts[f"{side}_scales"]})
            for side in ("left", "right")
        ]
        ranks = {tuple(side.codes.shape[1:]) for side in sides}
        rows = all(side.scales.shape == side.codes.shape[:1] for side in sides)
        if len(ranks) != 1 or any(side.codes.ndim != 2 for side in sides) or not rows:
            raise ValueError("factors that do not belong together")
        if meta["dtype"] not in FLOAT_DTYPES:
            raise ValueError(f"unknown dtype {meta['dtype']}")
        return cls(sides[0], sides[1], meta["dtype"])

    def dequantise(self) -> Tensor:
        left, right = self.left, self.right
        sums = left.codes.float() @ right.codes.float().T
        values = sums * left.scales.float()[:, None] * right.scales.float()[None]
        return values.to(torch_dtype(self.original_dtype))


class LowRankFactors:
    """A treatment of a quantisation plan: the best approximation of a rank, its factors rounded to `bits`.

    Args:
        rank: r, or below 1 a share of a matrix's smaller side (0.25: a quarter of its singular values).
        bits: of a factor's codes.
    """

    stored_kind = FactoredTensor

    def __init__(self, rank: float = 0.25, bits: int = 8):
        self.factor_format = absmax_rows(bits)
        if not rank > 0 or (rank >= 1 and rank != int(rank)):
            raise UserError(f"rank={rank} must be a whole number or a share below 1: type rank=64 or rank=0.25")
        self.rank, self.bits = rank, bits

    def rank_for(self, shape: tuple[int, ...]) -> int:
        """The rank of a matrix's factors.

        Raises:
            UserError: sums of so many products of codes are not exact.
        """
        rank = int(self.rank) if self.rank >= 1 else max(1, int(self.rank * min(shape)))
        if rank * self.factor_format.code_min**2 > LARGEST_EXACT_SUM:
            raise UserError(f"rank={rank} with bits={self.bits} is not possible: type rank=64")
        return rank

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> FactoredTensor:
        if weight.ndim != 2 or not weight.numel() or self.rank_for(tuple(weight.shape)) > min(weight.shape):
            raise UserError(
                f"tensor '{name}' of shape {tuple(weight.shape)} has no rank {self.rank}: type a rank up to "
                f"{min(weight.shape, default=0)}, or another treatment"
            )
        U, S, Vt = singular_values(weight.detach().float().cpu())
        rank = self.rank_for(tuple(weight.shape))
        root = S[:rank].sqrt()
        left = quantise_rows(U[:, :rank] * root, self.factor_format)
        right = quantise_rows(Vt[:rank].T * root, self.factor_format)
        return FactoredTensor(left, right, dtype_name(weight.dtype))

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        sides = [(size, self.rank_for(shape)) for size in shape]
        return sum(self.factor_format.payload_bytes(side) for side in sides)
