"""Entropy-coded trellis quantisation of weights (ECTCQ; Ungerboeck 1982, Marcellin & Fischer 1990).

A weight of row r is scale_r · v with an integer v = 2·code + z0. The trellis state fixes z0 along the row (even or odd
values), the code's parity leads to the next state. A row's codes are those with the least

    sum of (w/scale - v)^2 + lambda · bits(v | z0)

found by the Viterbi algorithm (golf/quant/trellis_search.py). So the values are as dense as with twice the codes, at
the rate of the codes: 0.1 to 0.2 bit per weight less than rounding at equal error. Every row starts in state 0.
Walks may also go down the columns, `walk_rows` rows each (golf/quant/trellis_columns.py).
Invariant: decoding is a walk through golf/quant/trellis_states.py; no search, nothing else is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from golf.codec.layout import FLOAT_DTYPES, dtype_name, torch_dtype
from golf.errors import UserError
from golf.quant.trellis_search import VALUE_MAX, TrellisSearch, value_bits
from golf.quant.trellis_states import TRELLISES, UNGERBOECK_CODES, next_states, walk_of_spec

ROWS_TIMES_STATES = 65_536
WEIGHTS_PER_PASS = 1 << 20
RATE_ROUNDS = 3
RATE_SAMPLE_ROWS = 256
# A step need not be exact to be good: eight bits of it instead of eleven cost 0.02 % of error and save 3 bits a row.
SCALE_DTYPE = torch.bfloat16
CHOICES_PER_PASS = 1 << 32  # bytes of choices that a pass on an accelerator may hold


@dataclass(frozen=True)
class TrellisTensor:
    """Codes [.., R, C] int8 and scales [.., R] of a matrix or a stack of matrices.

    walk_rows: rows that a walk goes down a column before the next one begins; 0: walks go along the rows.
    """

    codes: Tensor
    scales: Tensor
    states: int
    original_dtype: str
    trellis: str = "ungerboeck"
    walk_rows: int = 0

    kind: ClassVar[str] = "trellis"

    def parts(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scales": self.scales}

    def meta(self) -> dict[str, Any]:
        down = {"walk_rows": self.walk_rows} if self.walk_rows else {}
        return {"states": self.states, "dtype": self.original_dtype, "trellis": self.trellis, **down}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], parts: Mapping[str, Tensor]) -> "TrellisTensor":
        if set(meta) - {"walk_rows"} != {"states", "dtype", "trellis"} or set(parts) != {"codes", "scales"}:
            raise ValueError("not a trellis tensor")
        codes, scales = parts["codes"], parts["scales"]
        if type(meta["states"]) is not int or meta["states"] not in TRELLISES.get(meta["trellis"], ()):
            raise ValueError("no such trellis")
        if meta["dtype"] not in FLOAT_DTYPES or codes.dtype != torch.int8 or not scales.dtype.is_floating_point:
            raise ValueError("codes and scales do not belong together")
        if codes.ndim not in (2, 3) or scales.shape != codes.shape[:-1]:
            raise ValueError("codes and scales do not belong together")
        _, walk_rows = walk_of_spec((cls.kind, meta), codes.shape[-1])
        return cls(codes, scales, meta["states"], meta["dtype"], meta["trellis"], walk_rows)

    def cpu(self) -> "TrellisTensor":
        """The same, on the CPU."""
        return replace(self, codes=self.codes.cpu(), scales=self.scales.cpu())

    def dequantise(self) -> Tensor:
        values = trellis_values(self.codes, self.states, self.trellis, self.walk_rows).float()
        return (values * self.scales.float()[..., None]).to(torch_dtype(self.original_dtype))


def trellis_values(codes: Tensor, states: int, trellis: str = "ungerboeck", walk_rows: int = 0) -> Tensor:
    """The integers v of codes [.., R, C], int16, by walks from state 0 along the rows or down the columns."""
    along = codes.ndim - 1 if walk_rows == 0 else codes.ndim - 2
    codes_SX = codes.movedim(along, 0).to(torch.int16)
    table = torch.from_numpy(next_states(states, trellis)).reshape(-1).to(codes.device)
    values_SX = torch.empty_like(codes_SX)
    state_X = torch.zeros(codes_SX.shape[1:], dtype=torch.int64, device=codes.device)
    for step, code_X in enumerate(codes_SX):
        if walk_rows and step % walk_rows == 0:
            state_X.zero_()
        values_SX[step] = 2 * code_X + (state_X & 1).to(torch.int16)
        state_X = table[2 * state_X + (code_X & 1)]
    return values_SX.movedim(0, along)


class TrellisQuantiser:
    """A treatment of a quantisation plan.

    Args:
        states: of the trellis; more states are slower to encode (not to decode) and closer to the bound.
        factor: step of the codes in standard deviations of a row, times 31, as in SDClip (k of the records).
        rate_weight: lambda, in squared units of the value step (half a code) per bit.
        trellis: "least_error" or "ungerboeck" (golf/quant/trellis_states.py).
    """

    stored_kind = TrellisTensor

    def __init__(
        self, states: int = 8, factor: float = 12.85, rate_weight: float = 0.35, trellis: str = "least_error"
    ) -> None:
        if states not in UNGERBOECK_CODES:
            known = ", ".join(map(str, UNGERBOECK_CODES))
            raise UserError(f"states={states} has no trellis: use one of {known}, as in quant=tcq_8")
        if trellis not in TRELLISES:
            raise UserError(f"trellis={trellis} is not known: type trellis=least_error or trellis=ungerboeck")
        if not factor > 0 or rate_weight < 0:
            raise UserError(f"factor={factor}, rate_weight={rate_weight}: type factor=12.85 rate_weight=0.35")
        self.states, self.factor, self.trellis = states, factor, trellis
        self.search = TrellisSearch(states, rate_weight, trellis)

    def payload_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape) + 2 * prod(shape[:-1])

    def convert(self, name: str, weight: Tensor, calibration: Any = None) -> TrellisTensor:
        return self.convert_many([name], [weight], [calibration])[0]

    def convert_many(
        self, names: Sequence[str], weights: Sequence[Tensor], calibrations: Sequence[Any]
    ) -> list[TrellisTensor]:
        """Quantise matrices of one shape; the rates are those of all their codes."""
        stacked = stacked_matrices(names, weights)
        x_RC = stacked.reshape(-1, stacked.shape[-1])
        scale_R = self.row_scales(x_RC)
        values_RC = self.quantise_scaled(x_RC / scale_R[:, None])
        return self.stored(values_RC, best_scales(x_RC, values_RC, scale_R), weights)

    def row_scales(self, x_RC: Tensor) -> Tensor:
        """The value step of each row, as stored."""
        spread = x_RC.std(dim=-1) if x_RC.shape[-1] > 1 else x_RC.abs().amax(dim=-1)
        peak = x_RC.abs().amax(dim=-1) / (VALUE_MAX - 10)
        return torch.maximum(self.factor / 62.0 * spread, peak).clamp_min(2.0**-14).to(SCALE_DTYPE).float()

    def rates(self, x_RC: Tensor, importance_RC: Tensor | None = None, rows: int = RATE_SAMPLE_ROWS) -> Tensor:
        """Bits of each value, learned from a sample of so many scaled rows: search, count, search again."""
        every = max(1, len(x_RC) // rows)
        sample, importance = x_RC[::every], None if importance_RC is None else importance_RC[::every]
        bits = value_bits(torch.round(sample).clamp(-250, 250))
        for _ in range(RATE_ROUNDS):
            bits = value_bits(self.search.rows(sample, bits, importance, pruned_places(sample)))
        return bits

    def rows_together(self, columns: int, device: torch.device) -> int:
        """As many rows at a time as pay: on a CPU a step's costs should fit its cache."""
        if device.type == "cpu":
            return max(1, min(WEIGHTS_PER_PASS // max(1, columns), ROWS_TIMES_STATES // self.states))
        return max(1, CHOICES_PER_PASS // (max(1, columns) * self.states))

    def quantise_scaled(self, x_RC: Tensor) -> Tensor:
        """Values of rows in units of the value step."""
        bits = self.rates(x_RC)
        pieces = x_RC.split(self.rows_together(x_RC.shape[1], x_RC.device))
        return torch.cat([self.search.rows(piece, bits, None, pruned_places(piece)) for piece in pieces])

    def stored(
        self, values_RC: Tensor, scale_R: Tensor, weights: Sequence[Tensor], walk_rows: int = 0
    ) -> list[TrellisTensor]:
        """What a plan keeps of matrices whose rows come one after the other."""
        shape = (len(weights), *weights[0].shape)
        codes = ((values_RC - (values_RC & 1)) // 2).to(torch.int8).reshape(shape).cpu()
        scales = scale_R.to(SCALE_DTYPE).reshape(shape[:-1]).cpu()
        dtype = dtype_name(weights[0].dtype)
        return [
            TrellisTensor(code.clone(), scale.clone(), self.states, dtype, self.trellis, walk_rows)
            for code, scale in zip(codes, scales)
        ]


def pruned_places(x: Tensor) -> Tensor | None:
    """Where weights are exactly zero, and so stay; None if nowhere."""
    zero = x == 0
    return zero if bool(zero.any()) else None


def stacked_matrices(names: Sequence[str], weights: Sequence[Tensor]) -> Tensor:
    """Matrices of one shape as float32, [N, .., R, C].

    Raises:
        UserError: a tensor without rows, or a value that is not finite.
    """
    if weights[0].ndim not in (2, 3):
        raise UserError(f"tensor '{names[0]}' has no rows to run a trellis along: route it to float16 or int8_rows")
    stacked = torch.stack([weight.detach().float() for weight in weights])
    if not torch.isfinite(stacked).all():
        raise UserError("cannot quantise NaN or infinite weights: export an earlier checkpoint")
    return stacked


def best_scales(x_RC: Tensor, values: Tensor, scale: Tensor, hessian_CC: Tensor | None = None) -> Tensor:
    """The scale of each row with the least squared error for its values, where that stays close to the one searched.

    With a Hessian: the least error weighted by it.
    """
    v_RC = values.float()
    weighted_RC = v_RC if hessian_CC is None else v_RC @ (hessian_CC.float() / hessian_CC.diagonal().mean())
    energy = (weighted_RC * v_RC).sum(dim=-1)
    fitted = torch.where(energy > 0, (x_RC * weighted_RC).sum(dim=-1) / energy.clamp_min(1e-6), scale)
    return torch.where((fitted / scale - 1.0).abs() < 0.25, fitted, scale)
