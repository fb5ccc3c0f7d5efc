"""Adam / AdamW (arXiv:1412.6980, arXiv:1711.05101), with decoupled weight decay and moments in the parameter's dtype.

m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g²;  W <- W (1 - lr wd) - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps).
bfloat16 tables keep bfloat16 moments; the arithmetic is float32 and is rounded when stored (as fused Adam does).
"""

from typing import Any

import torch
from torch import Tensor


class AdamRule:
    """Update rule for everything that is not orthogonalised. Group keys: lr (0-D), betas, eps, weight_decay, step."""

    sharded = False

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any) -> None:
        group["step"] += 1
        for dtype in dict.fromkeys(p.dtype for p in params):
            chosen = [i for i, p in enumerate(params) if p.dtype == dtype]
            self._update_dtype(group, [params[i] for i in chosen], [grads[i] for i in chosen], state)

    def _update_dtype(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: Any) -> None:
        for p in params:
            if "exp_avg" not in state[p]:
                state[p]["exp_avg"], state[p]["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        stored = (params, [state[p]["exp_avg"] for p in params], [state[p]["exp_avg_sq"] for p in params])
        if params[0].dtype == torch.float32:
            self._step(group, *stored, grads)
            return
        working = [[t.float() for t in tensors] for tensors in stored]
        self._step(group, working[0], working[1], working[2], [g.float() for g in grads])
        for targets, sources in zip(stored, working):
            torch._foreach_copy_(targets, sources)

    def _step(self, group: dict[str, Any], params: Any, means: Any, squares: Any, grads: Any) -> None:
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, grads, 1.0 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1.0 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, (1.0 - beta2 ** group["step"]) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(means, denominators)
        torch._foreach_mul_(updates, group["lr"] / (1.0 - beta1 ** group["step"]))
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(params, updates)
