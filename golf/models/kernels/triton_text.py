"""Triton kernels as text: compiled where Triton is, named with their fall-back where it is not.

Triton compiles a kernel from its source text, which a function inside a packed (minified, compressed) program no longer
has. So a kernel is kept as text, and an exported file carries it unchanged, whatever form it has. Operators are defined
with a schema, so that `torch.compile` sees one opaque call. Invariant: nothing of Triton is imported before it is used.
TRITON_INTERPRET=1 (Triton's own switch) runs kernels on the CPU, slowly: that is how they are tested without a GPU.
"""

import importlib.util
import linecache
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

OPERATORS = "golf_kernels"  # namespace in torch.ops


def kernel_devices() -> tuple[str, ...]:
    """Kinds of device that Triton kernels run on here."""
    if importlib.util.find_spec("triton") is None:
        return ()
    return ("cuda", "cpu") if interpreted() else ("cuda",)


def triton_obstacle(device: str) -> str:
    """Why Triton kernels cannot run on a kind of device; empty where they can."""
    devices = kernel_devices()
    if device in devices:
        return ""
    return f"no Triton kernels for the device '{device}'" if devices else "Triton is not installed (pip install triton)"


def interpreted() -> bool:
    """Whether Triton interprets kernels; its products of bfloat16 are then wrong, so kernels widen their operands."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@lru_cache(maxsize=16)
def kernel_from_text(name: str, text: str) -> Any:
    """The kernel `name` of a text that defines it, with `tl` (triton.language) at hand; launched as name[grid](…)."""
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    file = f"<golf kernel {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"tl": tl, "__name__": "golf_kernel"}
    exec(compile(text, file, "exec"), space)
    return triton.jit(space[name])


def define_operator(
    name: str,
    schema: str,
    run: Callable[..., Any],
    shapes: Callable[..., Any],
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> None:
    """Make torch.ops.golf_kernels.<name>, once in a process: `run` computes it, `shapes` gives empty results.

    With `backward` it has a gradient: `save(context, inputs, output)` keeps what `backward(context, *gradients)` needs.
    """
    if not hasattr(getattr(torch.ops, OPERATORS), name):
        full = f"{OPERATORS}::{name}"
        torch.library.define(full, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(full, "default", run)
        torch.library.register_fake(full, shapes)
        if save is not None and backward is not None:

            def save_named(**named: Any) -> None:  # PyTorch passes keywords, and a packed program renames arguments
                save(named["ctx"], named["inputs"], named["output"])

            torch.library.register_autograd(full, backward, setup_context=save_named)


@lru_cache(maxsize=1)
def lines_said() -> set[str]:
    """What `say_fall_back` has said in this process (one set, whoever asks)."""
    return set()


def say_fall_back(option: str, reason: str, instead: str) -> None:
    """One line, once in a process and on the first rank: what is used instead of an option's kernel, and why."""
    line = f"{option}: {reason}; {instead} computes instead (its cost: python benchmarks/kernels.py)"
    if os.environ.get("RANK", "0") == "0" and line not in lines_said():
        lines_said().add(line)
        print(line, file=sys.stderr, flush=True)


def dot_precision(x: Tensor) -> str:
    """How float32 products are to be computed, by PyTorch's own setting; other dtypes do not ask."""
    exact = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"
