"""Muon: momentum whose matrix update is orthogonalised by a Newton–Schulz iteration (Keller Jordan, 2024).

m <- mu m + g;  u = g + mu m (Nesterov);  X = u / (|u|_F + 1e-7);  five times: A = X Xᵀ, X <- a X + (b A + c A²) X;
W <- W - lr · sqrt(max(1, rows/cols)) · X.  Matrices of one shape are iterated as one batch.
Legend: N matrices of one shape, R rows, C columns.
"""

from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_EPSILON = 1e-7


def orthogonalise(
    update_NRC: Tensor,
    steps: int = 5,
    dtype: torch.dtype = torch.bfloat16,
    coefficients: tuple[float, float, float] = NEWTON_SCHULZ_COEFFICIENTS,
) -> Tensor:
    """Approximately nearest semi-orthogonal matrices of a batch [N, R, C] (or one [R, C]), returned in `dtype`."""
    a, b, c = coefficients
    X = update_NRC.to(dtype)
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + NEWTON_SCHULZ_EPSILON)
    wide = X.shape[-2] <= X.shape[-1]
    if not wide:
        X = X.mT
    for _ in range(steps):
        A = X @ X.mT
        B = b * A + (c * A) @ A  # this association is the published one: it decides the rounding in bfloat16
        X = a * X + B @ X
    return X if wide else X.mT


class MuonRule:
    """Update rule for 2-D weights. Group keys used: lr (0-D tensor), momentum (0-D tensor), weight_decay."""

    def __init__(self, newton_schulz_steps: int = 5, newton_schulz_dtype: str = "bfloat16", nesterov: bool = True):
        self.steps, self.nesterov = newton_schulz_steps, nesterov
        self.dtype = getattr(torch, newton_schulz_dtype)

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any) -> None:
        for p in params:
            if "momentum_buffer" not in state[p]:
                state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta = [state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, grads)
        updates = momenta
        if self.nesterov:
            updates = torch._foreach_mul(momenta, group["momentum"])
            torch._foreach_add_(updates, grads)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        for shape in dict.fromkeys(p.shape for p in params):
            chosen = [i for i, p in enumerate(params) if p.shape == shape]
            X_NRC = orthogonalise(torch.stack([updates[i] for i in chosen]), self.steps, self.dtype)
            X_NRC = X_NRC * max(1.0, shape[0] / shape[1]) ** 0.5
            delta_NRC = X_NRC.to(params[chosen[0]].dtype) * group["lr"]
            torch._foreach_sub_([params[i] for i in chosen], list(delta_NRC.unbind(0)))
