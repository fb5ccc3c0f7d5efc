"""Is the attention backend of this run usable? Answered by running it, forward and backward, not by importing it.

The backend gets queries, keys and values of the run's heads in the run's dtype, and its result is compared with
softmax(Q·Kᵀ/√E)·V in float32. Legend: B batch, H heads, K key/value heads, T time, E head width.
"""

from __future__ import annotations

import math
from typing import Any

from golf.doctor.finding import Line, Subject, split_error
from golf.errors import UserError

TOKENS = 256
TOLERANCE = {"bfloat16": 3e-2, "float32": 2e-3}  # of outputs that are averages of standard normals
WHY = "every forward pass would end here"


def attention(subject: Subject) -> list[Line]:
    """The backend of model/backend=, and which kernels PyTorch's own attention has here."""
    node = ((subject.config or {}).get("model") or {}).get("backend")
    if subject.hardware is None or not node:
        return []
    name = str(node["_target_"]).rpartition(".")[2]
    try:
        error = largest_error(node, subject)
    except UserError as complaint:
        what, todo = split_error(complaint)
        return [Line("fail", "attention", what, todo or "type model/backend=sdpa", WHY)]
    except (RuntimeError, OSError, ImportError, AttributeError, TypeError) as complaint:
        said = f"{name}: {type(complaint).__name__}: {' '.join(str(complaint).split())[:160]}"
        why = "it is installed and does not run: built for another torch, CUDA or GPU"
        return [Line("fail", "attention", said, "type model/backend=sdpa", why)]
    dtype = subject.hardware["compute_dtype"]
    if not error <= TOLERANCE[dtype]:
        detail = f"{name} is off by {error:.2g} in {dtype}"
        return [Line("fail", "attention", detail, "type model/backend=sdpa", "the network would learn something else")]
    lines = [Line("ok", "attention", f"{name} ran forward and backward in {dtype}, off by {error:.1g}")]
    return lines + (kernels(subject) if name == "Sdpa" else [])


def largest_error(node: dict[str, Any], subject: Subject) -> float:
    """Largest difference between the backend's output and attention by the formula.

    Raises:
        UserError: the backend refuses. RuntimeError and others: it breaks.
    """
    import torch

    from golf.config.build import build
    from golf.models.context import Context

    backend = build(node)
    q_BHTE, k_BKTE, v_BKTE = inputs(subject)
    empty = torch.empty(0, device=q_BHTE.device)
    context = Context(empty, empty, empty, empty, shared={})
    y_BHTE = backend(q_BHTE, k_BKTE, v_BKTE, context)
    y_BHTE.float().square().sum().backward()
    if not all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in (q_BHTE, k_BKTE, v_BKTE)):
        raise RuntimeError("gradients are not finite")
    return float((y_BHTE.detach().float() - reference(q_BHTE, k_BKTE, v_BKTE)).abs().max())


def inputs(subject: Subject) -> tuple[Any, Any, Any]:
    """Standard normal queries, keys and values of the run's shape on its device; the same ones every time."""
    import torch

    assert subject.config is not None
    assert subject.hardware is not None
    model, hardware = subject.config["model"], subject.hardware
    heads = int(model.get("num_heads") or 8)
    kv_heads, E = int(model.get("num_kv_heads") or heads), int(model.get("width") or 8 * heads) // heads
    device = hardware["accelerator"]
    draws = torch.Generator().manual_seed(0)

    def draw(count: int) -> Any:
        values = torch.randn(1, count, TOKENS, E, generator=draws)
        return values.to(device, getattr(torch, hardware["compute_dtype"])).requires_grad_()

    return draw(heads), draw(kv_heads), draw(kv_heads)


def reference(q_BHTE: Any, k_BKTE: Any, v_BKTE: Any) -> Any:
    """Causal attention by the formula, in float32."""
    import torch

    with torch.no_grad():
        groups, T = q_BHTE.shape[1] // k_BKTE.shape[1], q_BHTE.shape[2]
        k_BHTE, v_BHTE = (x.float().repeat_interleave(groups, dim=1) for x in (k_BKTE, v_BKTE))
        scores_BHTT = q_BHTE.float() @ k_BHTE.transpose(2, 3) / math.sqrt(q_BHTE.shape[3])
        future_TT = torch.ones(T, T, dtype=torch.bool, device=q_BHTE.device).triu(1)
        return scores_BHTT.masked_fill(future_TT, -math.inf).softmax(3) @ v_BHTE


def kernels(subject: Subject) -> list[Line]:
    """The kernels behind PyTorch's attention that run the shape; without a fused one a GPU is slow."""
    from torch.nn.attention import SDPBackend

    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    usable = [backend.name.removesuffix("_ATTENTION").lower() for backend in fused if runs(backend, subject)]
    if usable:
        return [Line("ok", "attention kernels", f"{', '.join(usable)}: run this shape")]
    detail, on_gpu = "no fused kernel runs this shape", (subject.hardware or {})["accelerator"] == "cuda"
    if not on_gpu:
        return [Line("ok", "attention kernels", f"{detail} on this device: PyTorch's plain one is used")]
    todo = "model/backend=flex, or hardware.compute_dtype=bfloat16 with heads of at most 256"
    return [Line("warn", "attention kernels", detail, todo, "plain attention is several times slower")]


def runs(backend: Any, subject: Subject) -> bool:
    import warnings

    from torch.nn.attention import sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q_BHTE, k_BKTE, v_BKTE = inputs(subject)
    try:
        with warnings.catch_warnings(), sdpa_kernel(backend):
            warnings.simplefilter("ignore")
            y_BHTE = scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=True)
            y_BHTE.sum().backward()
    except RuntimeError:
        return False
    return True
