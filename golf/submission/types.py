"""A program without the types of its parameters, results and variables, which nothing reads when it runs.

Fields of dataclasses and NamedTuples keep theirs. Invariant: the program does the same.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.unused import remove_definitions


class Types(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        is_record = bool(node.decorator_list) or any(ast.unparse(base) == "NamedTuple" for base in node.bases)
        node.body = [item if is_record and isinstance(item, ast.AnnAssign) else self.visit(item) for item in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return node
        found: Any = ast.copy_location(ast.Assign([node.target], node.value), node)
        found.was = node  # whose comments are this one's
        return found


def without_types(tree: ast.Module) -> ast.Module:
    """The program, edited in place; imports that only types needed go, too."""
    Types().visit(tree)
    remove_definitions(tree)
    return ast.fix_missing_locations(tree)
