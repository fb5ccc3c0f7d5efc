"""Writes what is in a wrapper where it is made and where it is asked (golf/submission/wrappers.py finds them)."""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.walk import copied


class Unwrapping(ast.NodeTransformer):
    """`inner`: what is in what is made, by its id; `asked`: ids of places that ask; `types`: of what classes hold."""

    def __init__(self, inner: dict[int, ast.expr], asked: set[int], types: dict[str, ast.expr]):
        self.inner, self.asked, self.types = inner, asked, types

    def visit(self, node: ast.AST) -> Any:
        inner = self.inner.get(id(node))
        if inner is not None:
            return self.visit(inner)
        if id(node) in self.asked and isinstance(node, ast.Attribute | ast.Subscript):
            return self.visit(node.value)
        return super().visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        for _ in self.types:  # each may name another
            node.annotation = Types(self.types).visit(node.annotation)
        return self.generic_visit(node)


class Types(ast.NodeTransformer):
    """Writes the type of what is in a record where its class is named."""

    def __init__(self, types: dict[str, ast.expr]):
        self.types = types

    def visit_Name(self, node: ast.Name) -> Any:
        return copied(self.types[node.id]) if node.id in self.types else node
