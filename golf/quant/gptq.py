"""GPTQ (arXiv 2210.17323): columns are rounded one after the other, later ones make up for the error of earlier ones.

    H = sum of x xᵀ over calibration inputs, damped;  U = upper Cholesky factor of its inverse, Uᵀ U = H⁻¹
    for each column j, largest H_jj first:  q_j = clamp(round(w_j / s)),  e = (w_j - q_j s) / U_jj,
                                            w_k -= e U_jk for all later columns k

with the row scales s fixed beforehand (records from 2026-03-25 on). Columns go in blocks of 128; what follows a block
is updated once per block: the same numbers, as matrix products. Columns that no input ever reached become zero.
A weight that is exactly zero (pruned) keeps code 0, q_j = 0 whatever it was to make up for, and hands all of that on.
Invariant: a result depends on weight, Hessian and settings alone; where a Hessian has no Cholesky factor, damping
grows tenfold twice, then the matrix is rounded to nearest, and `notes` says so.
Legend: N matrices, K candidates of scales, R rows, C columns.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from golf.codec.layout import dtype_name, torch_dtype
from golf.errors import UserError
from golf.quant.formats import QuantFormat, deviation_rows
from golf.quant.rtn import QuantisedTensor, clip_of_cells, quantise_rows, scales_of_cells

DAMPING_STEPS = (1.0, 10.0, 100.0)
ROWS_AT_A_TIME_ON_CPU = 512  # more do not pay there: a block of columns has to fit the cache
ROWS_AT_A_TIME = 16_384  # enough to fill a GPU, few enough that ranks get shares


class HessianFactor(NamedTuple):
    """What the solver needs of a Hessian: U [C, C] in `order`, the damped diagonal and the dead columns as they were.

    `growth`: 1, or by how much the damping had to grow.
    """

    upper_CC: Tensor
    order_C: Tensor
    diagonal_C: Tensor
    dead_C: Tensor
    growth: float


def factor_hessian(
    hessian_CC: Tensor, damping: float = 0.01, early_damping: float = 0.0, act_order: bool = True
) -> HessianFactor | None:
    """Damp, order and factorise; None if no damping helps.

    Args:
        damping: share of the mean diagonal that is added to the diagonal.
        early_damping: the same, before dead columns are looked for (the records of March did it while collecting).
        act_order: columns by descending diagonal; otherwise as they are.
    """
    if hessian_CC.ndim != 2 or hessian_CC.shape[0] != hessian_CC.shape[1]:
        raise UserError(f"a Hessian is a square matrix, not {tuple(hessian_CC.shape)}: calibrate this network again")
    plain = hessian_CC.float().clone()
    diagonal = plain.diagonal()  # a view
    if not torch.isfinite(plain).all() or (diagonal < 0).any():
        return None
    if early_damping:
        diagonal += early_damping * diagonal.mean().clamp_min(1e-6)
    dead_C = diagonal == 0
    diagonal[dead_C] = 1.0
    for growth in DAMPING_STEPS:
        damped = plain.clone()
        damped.diagonal().add_(damping * growth * diagonal.mean())
        order_C = torch.arange(len(damped), device=damped.device)
        if act_order:
            order_C = torch.argsort(damped.diagonal(), descending=True, stable=True)
        lower, failed = torch.linalg.cholesky_ex(damped[order_C][:, order_C])
        if int(failed):
            continue
        upper_CC, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not int(failed) and torch.isfinite(upper_CC).all():
            return HessianFactor(upper_CC, order_C, damped.diagonal().clone(), dead_C, growth)
    return None


def solve_columns(
    weight_NRC: Tensor,
    upper_NCC: Tensor,
    scale_NR: Tensor,
    nearest: Callable[[Tensor, Tensor, int], Tensor],
    block: int = 128,
) -> Tensor:
    """Codes [N, R, C] as float32, times `scale_NR` close to the weights; columns in the order of U.

    Args:
        nearest: codes [N, R] of a column [N, R], in units of the scales, given where it has to be zero, and its number.
    """
    rest_NCR = weight_NRC.transpose(1, 2).contiguous().clone()  # columns are contiguous
    zero_NCR = rest_NCR == 0
    codes_NCR = torch.empty_like(rest_NCR)
    divisor_NR = torch.where(scale_NR > 0, scale_NR, torch.ones_like(scale_NR))
    columns = rest_NCR.shape[1]
    for start in range(0, columns, block):
        end = min(start + block, columns)
        block_NBR, errors_NBR = rest_NCR[:, start:end], torch.empty_like(rest_NCR[:, start:end])
        for j in range(end - start):
            here = start + j
            column_NR = block_NBR[:, j]
            code_NR = nearest(column_NR / divisor_NR, zero_NCR[:, here], here)
            codes_NCR[:, here] = code_NR
            error_NR = (column_NR - code_NR * scale_NR) / upper_NCC[:, here, here, None]
            errors_NBR[:, j] = error_NR
            if here + 1 < end:
                later_NB = upper_NCC[:, here, here + 1 : end]
                block_NBR[:, j + 1 :].addcmul_(later_NB[..., None], error_NR[:, None], value=-1.0)
        if end < columns:
            rest_NCR[:, end:].baddbmm_(upper_NCC[:, start:end, end:].transpose(1, 2), errors_NBR, alpha=-1.0)
    return codes_NCR.transpose(1, 2)


def solve_codes(
    weight_NRC: Tensor, upper_NCC: Tensor, scale_NR: Tensor, code_min: int, code_max: int, block: int = 128
) -> Tensor:
    """Codes [N, R, C] rounded to nearest, within a range. Scales of zero give codes of zero, as do zeros."""

    def nearest(column_NR: Tensor, zero_NR: Tensor, _column: int) -> Tensor:
        return torch.round(column_NR).clamp_(code_min, code_max).masked_fill_(zero_NR, 0.0)

    return solve_columns(weight_NRC, upper_NCC, scale_NR, nearest, block)


class Gptq:
    """A treatment of a quantisation plan: GPTQ on rows clipped at a number of standard deviations (from 2026-04-05).

    scale = max(factor · std(row) / code_max, 1e-10) in float16: the step is a share of the row's deviation, so that
    `factor` trades bytes for error without a jump. With `hessian_weight` λ (2026-04-06), a row's scale is
    multiplied by 1 + λ (r - 1), r being its mean of |w_j| H_jj relative to the other rows.

    Args:
        bits: 5 to 8 (codes are symmetric).
        factor: 12.85 standard deviations for matrices, 20 for an int8 embedding, 14 for an int7 one in the records.
        hessian_weight: λ; 0.175 in the record.
        damping, early_damping, act_order: of the Hessian (`factor_hessian`). block: columns per lazy update.
    """

    wants_hessian = True

    def __init__(
        self,
        bits: int = 6,
        factor: float = 12.85,
        hessian_weight: float = 0.0,
        damping: float = 0.01,
        early_damping: float = 0.0,
        act_order: bool = True,
        block: int = 128,
    ):
        if not 2 <= bits <= 8:
            raise UserError(f"bits={bits} of GPTQ must be 2 to 8: type bits=6")
        if not factor > 0:
            raise UserError(f"factor={factor} must be positive: type factor=12.85")
        if not damping > 0 or early_damping < 0 or block < 1:
            raise UserError(
                f"damping={damping}, early_damping={early_damping}, block={block}: type damping=0.01 block=128"
            )
        self.hessian_weight = hessian_weight
        self.damping, self.early_damping, self.act_order, self.block = damping, early_damping, act_order, block
        self.format: QuantFormat = deviation_rows(bits, factor)
        self.notes: list[str] = []

    # -- the rule of the scales, which other classes replace -----------------------------------------------------------
    def candidate_scales(self, weight_RC: Tensor, factor: HessianFactor) -> Tensor:
        """Stored scales to try, [K, R] as float32."""
        clip_R = clip_of_cells(weight_RC, self.format)
        if self.hessian_weight:
            importance_C = (factor.diagonal_C / factor.diagonal_C.mean()).clamp_min(1e-8)
            mean_R = (weight_RC.abs() * importance_C).mean(dim=1)
            ratio_R = mean_R / mean_R.mean().clamp_min(1e-12)
            clip_R = clip_R * (1.0 + self.hessian_weight * (ratio_R - 1.0))
        return scales_of_cells(clip_R, True, self.format)[1][None]

    def choose(self, errors_KR: Tensor) -> Tensor:
        """Which candidate each row takes, [R], from the rows' mean squared errors; the first one here."""
        return torch.zeros(errors_KR.shape[1], dtype=torch.int64, device=errors_KR.device)

    def round_to_nearest(self, weight: Tensor) -> QuantisedTensor:
        """What is stored where there is no usable Hessian."""
        return quantise_rows(weight, self.format)

    # -- the treatment -------------------------------------------------------------------------------------------------
    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> QuantisedTensor:
        return self.convert_many([name], [weight], [calibration])[0]

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        return self.format.payload_bytes(shape)

    def together(self, shape: tuple[int, ...], device: str) -> int:
        """How many matrices of a shape `convert_many` gets at a time: a job for one rank and one core."""
        limit = ROWS_AT_A_TIME_ON_CPU if device == "cpu" else ROWS_AT_A_TIME
        return max(1, limit // max(1, shape[0] if shape else 1))

    def convert_many(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> list[QuantisedTensor]:
        """Matrices of one shape together; `notes` gets what had to be done otherwise than asked."""
        found, notes = self.solved(names, weights, calibrations)
        self.notes += notes
        return found

    def solved(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> tuple[list[QuantisedTensor], list[str]]:
        """Matrices of one shape, on the device of their Hessians, and the notes; changes nothing in this object."""
        notes: list[str] = []
        factors: dict[int, HessianFactor | None] = {}
        stored: dict[int, QuantisedTensor] = {}
        solvable = []
        for index, (name, weight, hessian) in enumerate(zip(names, weights, calibrations)):
            if hessian is not None and weight.ndim == 2:
                if len(hessian) != weight.shape[1]:
                    raise UserError(
                        f"the Hessian of '{name}' is for {len(hessian)} columns, not {weight.shape[1]}: calibrate again"
                    )
                if id(hessian) not in factors:
                    factors[id(hessian)] = factor_hessian(hessian, self.damping, self.early_damping, self.act_order)
                factor = factors[id(hessian)]
                if factor is not None:
                    if factor.growth > 1:
                        notes.append(f"{name}: its Hessian needed {factor.growth:g} times the damping")
                    solvable.append((index, weight, factor))
                    continue
            what = "has no Hessian" if hessian is None else "has a Hessian that is not positive definite"
            notes.append(f"{name}: {what}: rounded to nearest")
            stored[index] = self.round_to_nearest(weight).cpu()
        if solvable:
            solved = self._solve([weight for _, weight, _ in solvable], [factor for _, _, factor in solvable])
            stored |= {index: result for (index, _, _), result in zip(solvable, solved)}
        return [stored[index] for index in range(len(names))], notes

    def _solve(self, weights: list[Tensor], factors: list[HessianFactor]) -> list[QuantisedTensor]:
        device = factors[0].upper_CC.device
        plain = [weight.detach().to(device).float() for weight in weights]
        scales_NKR = torch.stack([self.candidate_scales(w, f) for w, f in zip(plain, factors)])
        if not torch.isfinite(scales_NKR).all():
            raise UserError("a row's scale overflows float16: keep that tensor as float16 with quant.overrides")
        alive = [w.masked_fill(f.dead_C, 0.0)[:, f.order_C] for w, f in zip(plain, factors)]
        N, K, R = scales_NKR.shape
        weight_NKRC = torch.stack(alive)[:, None].expand(N, K, R, -1)
        scale_NKR1 = scales_NKR[..., None]
        codes_NKRC = solve_codes(
            weight_NKRC.reshape(N, K * R, -1),
            torch.stack([f.upper_CC for f in factors]),
            scales_NKR.reshape(N, K * R),
            self.format.code_min,
            self.format.code_max,
            self.block,
        ).reshape(N, K, R, -1)
        errors_NKR = (weight_NKRC - codes_NKRC * scale_NKR1).square().mean(dim=-1)
        results = []
        for weight, factor, scales, codes, errors in zip(weights, factors, scales_NKR, codes_NKRC, errors_NKR):
            chosen_R = self.choose(errors)
            rows = torch.arange(R, device=device)
            codes_RC = codes[chosen_R, rows][:, torch.argsort(factor.order_C)]
            scale_R = scales[chosen_R, rows].to(torch_dtype(self.format.scale_dtype))
            results.append(
                QuantisedTensor(codes_RC.to(torch.int8).cpu(), scale_R.cpu(), self.format, dtype_name(weight.dtype))
            )
        return results
