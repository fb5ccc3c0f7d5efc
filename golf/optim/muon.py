"""Muon: momentum whose matrix update is orthogonalised by a Newton–Schulz iteration (Keller Jordan, 2024).

m <- mu m + g;  u = g + mu m (Nesterov);  rows of u normalised if asked for;  X = u / (|u|_F + 1e-7);  per iteration
A = X Xᵀ, X <- a X + (b A + c A²) X;  W <- W (1 - lr wd) - lr · sqrt(max(1, rows/cols)) · X.
Coefficients: `classic` for every iteration, or `polar_express` (arXiv:2505.16932), which changes them.
Row normalisation: `row` divides by the row's L2 norm (MuonEq-R, arXiv:2603.28254), `rms` by its RMS (NeoMuon).
Matrices of one shape are iterated as one batch; weights and momenta stay where they are, in lists.
Legend: N matrices of one shape, R rows, C columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from golf.errors import UserError

NEWTON_SCHULZ_EPSILON = 1e-7
ROW_NORM_FLOOR = 1e-7
ROW_RMS_EPSILON = 1.1920928955078125e-07  # of float32
CLASSIC_COEFFICIENTS = ((3.4445, -4.7750, 2.0315),)
POLAR_EXPRESS_COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
ROW_NORMALISATIONS = ("none", "row", "rms")
DECAY_PLACEMENTS = ("before", "after")


def newton_schulz_coefficients_of(named: str | Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], ...]:
    """(a, b, c) of each iteration, from a name or a list of triples; the last one serves all further iterations."""
    known = {"classic": CLASSIC_COEFFICIENTS, "polar_express": POLAR_EXPRESS_COEFFICIENTS}
    if isinstance(named, str):
        if named not in known:
            raise UserError(
                f"optim.newton_schulz_coefficients={named}: allowed are {', '.join(known)} or a list of [a, b, c]; "
                "type optim.newton_schulz_coefficients=classic"
            )
        return known[named]
    if not len(named) or any(isinstance(triple, float | int) or len(triple) != 3 for triple in named):
        raise UserError(
            "optim.newton_schulz_coefficients: a list holds [a, b, c] per iteration; type [[3.4445,-4.775,2.0315]]"
        )
    return tuple((float(a), float(b), float(c)) for a, b, c in named)


def orthogonalise(
    update_NRC: Tensor,
    steps: int = 5,
    dtype: torch.dtype = torch.bfloat16,
    coefficients: Sequence[tuple[float, float, float]] = CLASSIC_COEFFICIENTS,
    square_first: bool | None = None,
) -> Tensor:
    """Approximately nearest semi-orthogonal matrices of a batch [N, R, C] (or one [R, C]), returned in `dtype`.

    square_first: c (A A) instead of (c A) A, which decides the rounding in bfloat16. None = as published: the classic
    iteration scales first, Polar Express (coefficients that change) squares first.
    """
    squares_first = len(coefficients) > 1 if square_first is None else square_first
    X = update_NRC.to(dtype)
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + NEWTON_SCHULZ_EPSILON)
    wide = X.shape[-2] <= X.shape[-1]
    if not wide:
        X = X.mT
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        A = X @ X.mT
        B = b * A + (c * (A @ A) if squares_first else (c * A) @ A)
        X = a * X + B @ X
    return X if wide else X.mT


def normalise_rows(update_NRC: Tensor, kind: str) -> Tensor:
    """Each row (one output unit's incoming weights) brought to one length; `none` changes nothing."""
    if kind == "none":
        return update_NRC
    rows = update_NRC.float()
    if kind == "row":
        return update_NRC / rows.norm(dim=-1, keepdim=True).clamp_min(ROW_NORM_FLOOR).to(update_NRC.dtype)
    return rows * torch.rsqrt(rows.square().mean(dim=-1, keepdim=True) + ROW_RMS_EPSILON)


class MuonRule:
    """Update rule for matrices [R, C] and stacks of them [n, R, C].

    Group keys used: lr and momentum (0-D tensors), weight_decay, weight_decay_multiplier.

    Args:
        newton_schulz_steps, newton_schulz_dtype, newton_schulz_coefficients, square_first: see `orthogonalise`.
        nesterov: u = g + mu m instead of m. row_normalise: none | row | rms, of u.
        weight_decay_placement: `before` the update is subtracted, or `after`, which shrinks the update too.
        momentum_dtype: float32 | bfloat16 (gradients are rounded to it as well, as the banked records do).
        compiled: torch.compile of the iteration, one graph per shape of matrices; other roundings in bfloat16.
    """

    sharded = False

    def __init__(
        self,
        newton_schulz_steps: int = 5,
        newton_schulz_dtype: str = "bfloat16",
        nesterov: bool = True,
        newton_schulz_coefficients: str | Sequence[Sequence[float]] = "classic",
        row_normalise: str = "none",
        weight_decay_placement: str = "before",
        momentum_dtype: str = "float32",
        square_first: bool | None = None,
        compiled: bool = False,
    ):
        for key, value, allowed in (
            ("row_normalise", row_normalise, ROW_NORMALISATIONS),
            ("weight_decay_placement", weight_decay_placement, DECAY_PLACEMENTS),
            ("momentum_dtype", momentum_dtype, ("float32", "bfloat16")),
            ("newton_schulz_dtype", newton_schulz_dtype, ("float32", "bfloat16", "float16", "float64")),
        ):
            if value not in allowed:
                raise UserError(f"optim.{key}={value}: allowed are {', '.join(allowed)}; type optim.{key}={allowed[0]}")
        self.steps, self.nesterov = newton_schulz_steps, nesterov
        self.coefficients = newton_schulz_coefficients_of(newton_schulz_coefficients)
        self.dtype, self.momentum_dtype = getattr(torch, newton_schulz_dtype), getattr(torch, momentum_dtype)
        self.square_first = square_first
        self.orthogonalise: Any = torch.compile(orthogonalise, dynamic=False) if compiled else orthogonalise
        self.row_normalise, self.weight_decay_placement = row_normalise, weight_decay_placement

    def update(self, group: dict[str, Any], params: list[Any], state: Any) -> None:
        stacks: dict[Any, list[Any]] = {}
        for p in params:
            held = state[p].get("momentum_buffer")  # one from a checkpoint has the dtype of p
            state[p]["momentum_buffer"] = (torch.zeros_like(p) if held is None else held).to(self.momentum_dtype)
            stacks.setdefault((p.shape, p.dtype), []).append(p)
        for weights in stacks.values():
            momenta = [state[p]["momentum_buffer"] for p in weights]
            gradients = [p.grad.to(self.momentum_dtype) for p in weights]
            direction_NRC = self.direction(torch.stack(self.updates(gradients, momenta, group["momentum"])))
            steps_NRC = direction_NRC.to(weights[0].dtype) * group["lr"]
            self.apply(group, weights, list(steps_NRC.unbind()))

    def updates(self, gradients: list[Tensor], momenta: list[Tensor], momentum: Tensor) -> list[Tensor]:
        """Take each gradient into its momentum of the same dtype, in place; the updates u, float32 if Nesterov's."""
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, gradients)
        if not self.nesterov:
            return momenta
        updates = list(torch._foreach_mul([m.float() for m in momenta], momentum))
        torch._foreach_add_(updates, gradients)
        return updates

    def direction(self, update_NRC: Tensor) -> Tensor:
        """Rows normalised, orthogonalised and scaled by the shape, in `dtype`; of [N, n, R, C] as well."""
        update_NRC = normalise_rows(update_NRC.to(self.momentum_dtype), self.row_normalise)  # one rounding, if bfloat16
        rows, columns = update_NRC.shape[-2:]
        X_NRC = self.orthogonalise(update_NRC, self.steps, self.dtype, self.coefficients, self.square_first)
        return X_NRC * max(1.0, rows / columns) ** 0.5

    def apply(self, group: dict[str, Any], weights: list[Tensor], steps: list[Tensor]) -> None:
        """W <- W (1 - lr wd) - lr X, or the decay after the update; `steps` are lr X."""
        decay = group["weight_decay"] * group.get("weight_decay_multiplier", 1.0)
        if decay and self.weight_decay_placement == "before":
            torch._foreach_mul_(weights, 1.0 - group["lr"] * decay)
        torch._foreach_sub_(weights, steps)
        if decay and self.weight_decay_placement == "after":
            torch._foreach_mul_(weights, 1.0 - group["lr"] * decay)
