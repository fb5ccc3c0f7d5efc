"""Checks of input, which an exported program does without: its configuration and data have passed them in the run.

A check is an `if` that does nothing but raise one of golf's errors (or a ValueError), or a `try` whose handlers do
nothing but raise one in place of another. Those of the main program stay, and those that protect a score.
"""

from __future__ import annotations

import ast
from typing import Any

RAISED = {"UserError", "ValueError", "VerificationFailed", "GolfError"}


class Checks(ast.NodeTransformer):
    """Takes checks out of definitions, except of those named in `kept`."""

    def __init__(self, kept: set[str]):
        self.kept = kept
        self.refusing: set[str] = set()  # functions that do nothing but raise

    def visit_Module(self, node: ast.Module) -> ast.Module:
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and self.raises(without_docstring(item.body)):
                self.refusing.add(item.name)
        for item in node.body:
            if getattr(item, "name", "") not in self.kept and getattr(item, "name", "") not in self.refusing:
                self.visit(item)
        return node

    def raises(self, body: list[ast.stmt]) -> bool:
        """Whether statements do nothing but raise an error of golf's."""
        while len(body) > 1 and isinstance(body[0], ast.Assign | ast.AnnAssign) and only_says(body[0]):
            body = body[1:]
        if len(body) != 1:
            return False
        node = body[0]
        call = node.exc if isinstance(node, ast.Raise) else node.value if isinstance(node, ast.Expr) else None
        if isinstance(node, ast.Raise) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            return call.func.id in RAISED or call.func.id in self.refusing or call.func.id == "damaged_stream"
        return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.refusing

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        node.orelse = [] if self.raises(node.orelse) else node.orelse
        if not self.raises(node.body):
            return node if node.body else node.orelse
        return node.orelse or None

    def visit_Try(self, node: ast.Try) -> Any:
        self.generic_visit(node)
        return node.body if not node.finalbody and all(self.gives_up(h.body) for h in node.handlers) else node

    def gives_up(self, body: list[ast.stmt]) -> bool:
        """Whether a handler cleans up and raises."""
        return self.raises(body[-1:]) and all(isinstance(item, ast.With | ast.If) for item in body[:-1])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name in self.kept:
            return node
        self.generic_visit(node)
        node.body = node.body or [ast.copy_location(ast.Pass(), node)]
        return node

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        node.body = node.body or [ast.copy_location(ast.Pass(), node)]
        return node


def only_says(node: ast.Assign | ast.AnnAssign) -> bool:
    """`names = sorted(…)` before an error is raised that shows them."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return all(isinstance(target, ast.Name | ast.Tuple) for target in targets)


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if documented else body
