"""Cross entropy of tanh-softcapped logits in two Triton kernels, which read and write the logits once each.

z = 2 cap (σ(2 l / cap) - 1/2) = cap tanh(l / cap);  nll = lse - z_target with lse = log Σ exp z (a running maximum and
sum);  dl = (exp(z - lse) - [target]) · g · 4 σ (1 - σ). Logits may be bfloat16, arithmetic is float32, the gradient has
the dtype of the logits. cap = 0: no softcap. Formula of the records from 23 April 2026.
A target of IGNORED has no loss and no gradient; one outside the vocabulary has the loss NaN.
Legend: N tokens, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from golf.models.kernels.triton_text import define_operator, kernel_from_text

IGNORED = -100  # as in torch.nn.functional.cross_entropy
LOSS_BLOCK = 1024

LOSS_TEXT = """
def capped_loss(logits, targets, losses, lses, V, cap, CAPPED: tl.constexpr, BLOCK: tl.constexpr,
                IGNORED: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    highest = -float("inf")
    total = 0.0
    for start in range(0, V, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        z = tl.load(logits + row * V + columns, columns < V, 0.0).to(tl.float32)
        if CAPPED:
            z = (1.0 / (1.0 + tl.exp(z * (-2.0 / cap))) - 0.5) * (2.0 * cap)
        z = tl.where(columns < V, z, -float("inf"))
        higher = tl.maximum(highest, tl.max(z, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(z - higher), 0)
        highest = higher
    lse = highest + tl.log(total)
    kept = target != IGNORED
    chosen = tl.load(logits + row * V + target, (target >= 0) & (target < V), float("nan")).to(tl.float32)
    if CAPPED:
        chosen = (1.0 / (1.0 + tl.exp(chosen * (-2.0 / cap))) - 0.5) * (2.0 * cap)
    tl.store(lses + row, lse)
    tl.store(losses + row, tl.where(kept, lse - chosen, 0.0))
"""

LOSS_GRADIENT_TEXT = """
def capped_gradient(logits, targets, lses, grads, out, V, cap, CAPPED: tl.constexpr, BLOCK: tl.constexpr,
                    IGNORED: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    lse = tl.load(lses + row)
    scale = tl.where(target != IGNORED, tl.load(grads + row), 0.0)
    for start in range(0, V, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        z = tl.load(logits + row * V + columns, columns < V, 0.0).to(tl.float32)
        slope = scale
        if CAPPED:
            s = 1.0 / (1.0 + tl.exp(z * (-2.0 / cap)))
            z = (s - 0.5) * (2.0 * cap)
            slope = scale * 4.0 * s * (1.0 - s)
        grad = (tl.exp(z - lse) - tl.where(columns == target, 1.0, 0.0)) * slope
        tl.store(out + row * V + columns, grad.to(out.dtype.element_ty), columns < V)
"""


def capped_loss_run(logits_NV: Tensor, targets_N: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    losses_N, lses_N = capped_loss_shapes(logits_NV, targets_N, cap)
    N, V = logits_NV.shape
    if N:
        kernel_from_text("capped_loss", LOSS_TEXT)[(N,)](
            logits_NV.contiguous(), targets_N.contiguous(), losses_N, lses_N, V, cap or 1.0, CAPPED=cap > 0,
            BLOCK=LOSS_BLOCK, IGNORED=IGNORED, num_warps=4,
        )  # fmt: skip
    return losses_N, lses_N


def capped_loss_shapes(logits_NV: Tensor, targets_N: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    N = logits_NV.shape[0]
    return logits_NV.new_empty(N, dtype=torch.float32), logits_NV.new_empty(N, dtype=torch.float32)


def capped_gradient_run(logits_NV: Tensor, targets_N: Tensor, lses_N: Tensor, grads_N: Tensor, cap: float) -> Tensor:
    logits_NV = logits_NV.contiguous()
    out_NV = torch.empty_like(logits_NV)
    N, V = logits_NV.shape
    if N:
        kernel_from_text("capped_gradient", LOSS_GRADIENT_TEXT)[(N,)](
            logits_NV, targets_N.contiguous(), lses_N, grads_N.contiguous(), out_NV, V, cap or 1.0, CAPPED=cap > 0,
            BLOCK=LOSS_BLOCK, IGNORED=IGNORED, num_warps=4,
        )  # fmt: skip
    return out_NV


def capped_gradient_shapes(logits_NV: Tensor, targets_N: Tensor, lses_N: Tensor, grads_N: Tensor, cap: float) -> Tensor:
    return torch.empty_like(logits_NV, memory_format=torch.contiguous_format)


def capped_loss_save(context: Any, inputs: Any, output: Any) -> None:
    logits_NV, targets_N, context.cap = inputs
    context.save_for_backward(logits_NV, targets_N, output[1])
    context.mark_non_differentiable(output[1])
    context.set_materialize_grads(False)


def capped_loss_backward(context: Any, grads_N: Tensor, *unused: Any) -> Any:
    logits_NV, targets_N, lses_N = context.saved_tensors
    return torch.ops.golf_kernels.capped_gradient(logits_NV, targets_N, lses_N, grads_N, context.cap), None, None


def define_loss_operators() -> None:
    """Make the operators that `softcapped_losses` calls."""
    define_operator(
        "capped_gradient", "(Tensor logits, Tensor targets, Tensor lses, Tensor grads, float cap) -> Tensor",
        capped_gradient_run, capped_gradient_shapes,
    )  # fmt: skip
    define_operator(
        "capped_loss", "(Tensor logits, Tensor targets, float cap) -> (Tensor, Tensor)", capped_loss_run,
        capped_loss_shapes, capped_loss_save, capped_loss_backward,
    )  # fmt: skip


def softcapped_losses(logits_NV: Tensor, targets_N: Tensor, cap: float) -> Tensor:
    """Logits [N, V] before the softcap, int64 targets [N] -> losses [N] in float32, 0 where the target is IGNORED."""
    return torch.ops.golf_kernels.capped_loss(logits_NV, targets_N, cap)[0]
