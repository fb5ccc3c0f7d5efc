"""Routes of the attention that only a CPU takes, which a program that refuses to run without a GPU does not need.

Such a program moves its network to the GPU before it computes anything (`ProgramRun`), so no tensor that attention is
given is on a CPU. Invariant: only tests of a tensor's device in golf.models.attention are settled; and only where the
configuration says `accelerator="cuda"`, with which `ProgramRun` raises an error where there is none.
"""

from __future__ import annotations

import ast

from golf.submission.emit import Original
from golf.submission.walk import walk

SECTION = "# ----- golf.models.attention"


def without_cpu(tree: ast.Module, original: Original) -> None:
    """Edit a whole program in place, if it is one for GPUs."""
    if not is_for_gpus(tree):
        return
    for node in tree.body:
        if original.banners.get(original.section(node), "").startswith(SECTION):
            OnGpu().visit(node)


def is_for_gpus(tree: ast.Module) -> bool:
    """Whether the configuration at the end says so."""
    calls = [n for n in walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    given = [k for n in calls if getattr(n.func, "id", "") == "Program" for k in n.keywords if k.arg == "accelerator"]
    return [k.value.value for k in given if isinstance(k.value, ast.Constant)] == ["cuda"]


class OnGpu(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        match node:
            case ast.Compare(
                left=ast.Attribute(value=ast.Attribute(attr="device"), attr="type"),
                ops=[ast.Eq() | ast.NotEq() as op],
                comparators=[ast.Constant(value="cpu")],
            ):
                return ast.copy_location(ast.Constant(isinstance(op, ast.NotEq)), node)
            case _:
                return node
