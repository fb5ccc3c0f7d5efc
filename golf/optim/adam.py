"""Adam / AdamW (arXiv:1412.6980, arXiv:1711.05101), with decoupled weight decay and moments in the parameter's dtype.

m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g²;  W <- W (1 - lr wd) - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps).
bfloat16 tables keep bfloat16 moments; the arithmetic is float32 and is rounded when stored (as fused Adam does).
"""

from typing import Any

import torch


class AdamRule:
    """Update rule for everything that is not orthogonalised. Group keys: lr (0-D), betas, eps, weight_decay, step."""

    sharded = False

    def update(self, group: dict[str, Any], params: list[Any], state: Any) -> None:
        group["step"] += 1
        for p in params:
            if not state[p]:
                state[p].update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        kept = [params, [state[p]["exp_avg"] for p in params], [state[p]["exp_avg_sq"] for p in params]]
        # Copies of what is not float32; what is float32 is changed in place.
        weights, means, squares = ([t.float() for t in tensors] for tensors in kept)
        gradients = [p.grad.float() for p in params]
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, gradients, 1.0 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, (1.0 - beta2 ** group["step"]) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(means, denominators)
        torch._foreach_mul_(updates, group["lr"] / (1.0 - beta1 ** group["step"]))
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(weights, updates)
        for tensors, results in zip(kept, (weights, means, squares)):
            torch._foreach_copy_(tensors, results)
