"""W_proj(leaky_relu(W_fc x, slope)²) with the activation in the epilogues of two matrix products, in Triton.

Forward: pre = x W_fcᵀ and post = leaky(pre)² leave one kernel. Backward, with g the gradient of the output:
dpre = (g W_proj) · 2 leaky(pre) leaky'(pre) leaves the same kernel; dW_proj = gᵀ post, dW_fc = dpreᵀ x, dx = dpre W_fc
are plain products. Formula of the records from 10 April 2026; sums in float32, one rounding per stored number.
Legend: N rows (batch x time), D width, F MLP width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.models.kernels.triton_text import define_operator, dot_precision, interpreted, kernel_from_text

# a [N, K] times b, which is [F, K] forward (w_f, w_k = K, 1) and [K, F] backward (1, F); tiles in groups of GROUP rows.
LEAKY_SQUARE_TEXT = """
def leaky_square(a, b, pre, out, N, F, K, w_f, w_k, slope, BACKWARD: tl.constexpr, BLOCK_N: tl.constexpr,
                 BLOCK_F: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
                 WIDEN: tl.constexpr):
    tile = tl.program_id(0)
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles_f = tl.cdiv(F, BLOCK_F)
    first = tile // (GROUP * tiles_f) * GROUP
    height = min(tiles_n - first, GROUP)
    inside = tile % (GROUP * tiles_f)
    rows = (first + inside % height) * BLOCK_N + tl.arange(0, BLOCK_N)
    columns = inside // height * BLOCK_F + tl.arange(0, BLOCK_F)
    far = rows.to(tl.int64)
    total = tl.zeros((BLOCK_N, BLOCK_F), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        left = tl.load(a + far[:, None] * K + inner[None, :], (rows[:, None] < N) & (inner[None, :] < K), 0.0)
        right = tl.load(b + inner[:, None] * w_k + columns[None, :] * w_f,
                        (inner[:, None] < K) & (columns[None, :] < F), 0.0)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    where = far[:, None] * F + columns[None, :]
    mask = (rows[:, None] < N) & (columns[None, :] < F)
    if BACKWARD:
        h = tl.load(pre + where, mask, 0.0).to(tl.float32)
        slopes = tl.where(h > 0, 2.0 * h, (2.0 * slope * slope) * h)
        tl.store(out + where, (total * slopes).to(out.dtype.element_ty), mask)
    else:
        rounded = total.to(pre.dtype.element_ty)
        h = rounded.to(tl.float32)
        h = tl.where(h > 0, h, slope * h)
        tl.store(pre + where, rounded, mask)
        tl.store(out + where, (h * h).to(out.dtype.element_ty), mask)
"""


def launch_leaky_square(a: Tensor, b: Tensor, pre_NF: Tensor, out_NF: Tensor, slope: float, backward: bool) -> None:
    """Fill `out_NF` (and forward `pre_NF`) from a [N, K] and b, [F, K] forward or [K, F] backward; all contiguous."""
    N, K = a.shape
    F_ = pre_NF.shape[1]
    block_n, block_f, block_k, stages, warps = leaky_tiles(a)
    tiles = -(-N // block_n) * -(-F_ // block_f)
    if not tiles:
        return
    strides = (1, F_) if backward else (K, 1)
    kernel_from_text("leaky_square", LEAKY_SQUARE_TEXT)[(tiles,)](
        a, b, pre_NF, out_NF, N, F_, K, *strides, slope, BACKWARD=backward, BLOCK_N=block_n, BLOCK_F=block_f,
        BLOCK_K=block_k, GROUP=8, PRECISION=dot_precision(a), WIDEN=interpreted(), num_stages=stages, num_warps=warps,
    )  # fmt: skip


def leaky_tiles(a: Tensor) -> tuple[int, int, int, int, int]:
    """(rows, columns, inner, stages, warps) of a tile: the records' 128 x 256 x 64 where shared memory holds it."""
    if a.device.type != "cuda":
        return 32, 32, 32, 1, 4
    memory = torch.cuda.get_device_properties(a.device).shared_memory_per_block_optin
    for block_f, block_k, stages, warps in ((256, 64, 3, 8), (128, 64, 3, 8), (128, 32, 3, 8)):
        if stages * (128 + block_f) * block_k * a.element_size() <= memory:
            return 128, block_f, block_k, stages, warps
    return 64, 64, 32, 2, 4


def leaky_mlp_run(x_ND: Tensor, fc_FD: Tensor, proj_DF: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    _, pre_NF, post_NF = leaky_mlp_shapes(x_ND, fc_FD, proj_DF, slope)
    launch_leaky_square(x_ND.contiguous(), fc_FD.contiguous(), pre_NF, post_NF, slope, backward=False)
    return F.linear(post_NF, proj_DF), pre_NF, post_NF


def leaky_mlp_shapes(x_ND: Tensor, fc_FD: Tensor, proj_DF: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    shape = (x_ND.shape[0], fc_FD.shape[0])
    return x_ND.new_empty((x_ND.shape[0], proj_DF.shape[0])), x_ND.new_empty(shape), x_ND.new_empty(shape)


def leaky_gradient_run(g_ND: Tensor, proj_DF: Tensor, pre_NF: Tensor, slope: float) -> Tensor:
    dpre_NF = torch.empty_like(pre_NF)
    launch_leaky_square(g_ND.contiguous(), proj_DF.contiguous(), pre_NF, dpre_NF, slope, backward=True)
    return dpre_NF


def leaky_gradient_shapes(g_ND: Tensor, proj_DF: Tensor, pre_NF: Tensor, slope: float) -> Tensor:
    return torch.empty_like(pre_NF)


def leaky_mlp_save(context: Any, inputs: Any, output: Any) -> None:
    x_ND, fc_FD, proj_DF, context.slope = inputs
    context.save_for_backward(x_ND, fc_FD, proj_DF, output[1], output[2])
    context.mark_non_differentiable(output[1], output[2])
    context.set_materialize_grads(False)


def leaky_mlp_backward(context: Any, g_ND: Tensor, *unused: Any) -> Any:
    x_ND, fc_FD, proj_DF, pre_NF, post_NF = context.saved_tensors
    dpre_NF = torch.ops.golf_kernels.leaky_gradient(g_ND, proj_DF, pre_NF, context.slope)
    return dpre_NF @ fc_FD, dpre_NF.mT @ x_ND, g_ND.mT @ post_NF, None


def define_leaky_operators() -> None:
    """Make the operators that `fused_leaky_mlp` calls."""
    define_operator(
        "leaky_gradient", "(Tensor g, Tensor proj, Tensor pre, float slope) -> Tensor", leaky_gradient_run,
        leaky_gradient_shapes,
    )  # fmt: skip
    define_operator(
        "leaky_mlp", "(Tensor x, Tensor fc, Tensor proj, float slope) -> (Tensor, Tensor, Tensor)", leaky_mlp_run,
        leaky_mlp_shapes, leaky_mlp_save, leaky_mlp_backward,
    )  # fmt: skip


def fused_leaky_mlp(x_ND: Tensor, fc_FD: Tensor, proj_DF: Tensor, slope: float) -> Tensor:
    """x [N, D], W_fc [F, D], W_proj [D, F], all of one dtype -> [N, D]; `define_leaky_operators` was called."""
    return torch.ops.golf_kernels.leaky_mlp(x_ND, fc_FD, proj_DF, slope)[0]
