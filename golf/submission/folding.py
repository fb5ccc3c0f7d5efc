"""What the folder asks of single pieces of syntax, and the pieces that it writes, without any facts of a program.

Invariant: none of these changes what it is given, but `negated`, which returns the test that it was given, edited.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.walk import walk


def asked_part(node: ast.Subscript) -> ast.expr | None:
    """The part of a display that a constant index asks for."""
    match node:
        case ast.Subscript(ast.Constant(str() as text), ast.Slice(None, ast.Constant(int() as end), None), ast.Load()):
            return ast.copy_location(ast.Constant(text[:end]), node)
        case _:
            pass
    if not isinstance(node.slice, ast.Constant) or not isinstance(node.ctx, ast.Load):
        return None
    index = node.slice.value
    match node.value:
        case ast.Tuple(elts=items) if isinstance(index, int) and 0 <= index < len(items):
            return None if any(isinstance(item, ast.Starred) for item in items) else items[index]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            names = [key.value for key in keys if isinstance(key, ast.Constant)]
            return values[names.index(index)] if names.count(index) == 1 else None
        case _:
            return None


def is_text(node: ast.stmt) -> bool:
    """A text as a statement of its own."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_once(node: ast.For) -> bool:
    """`for _ in range(1)` without a `break`, a `continue` or an `else`."""
    match node.iter:
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=1)]):
            jumps = any(isinstance(item, ast.Break | ast.Continue) for item in walk(node))
            return not jumps and not node.orelse
        case _:
            return False


def written_value(node: ast.expr) -> ast.expr:
    """A part of an f-string; its text, where that is a text or a number without more ado."""
    match node:
        case ast.FormattedValue(value=ast.Constant(value=str() | int() | float() as value), conversion=-1):
            spec = node.format_spec
            if spec is None:
                return ast.copy_location(ast.Constant(format(value)), node)
            if isinstance(spec, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in spec.values):
                text = "".join(str(part.value) for part in spec.values if isinstance(part, ast.Constant))
                return ast.copy_location(ast.Constant(format(value, text)), node)
        case _:
            pass
    return node


def literal(value: Any, node: ast.AST) -> ast.expr:
    """A constant as an expression; negative numbers are written with a sign."""
    if isinstance(value, int | float) and not isinstance(value, bool) and str(value).startswith("-"):
        return ast.copy_location(ast.UnaryOp(ast.USub(), ast.copy_location(ast.Constant(-value), node)), node)
    return ast.copy_location(ast.Constant(value), node)


def negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    opposite = {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn}
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in opposite:
        test.ops = [opposite[type(test.ops[0])]()]
        return test
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def is_empty(body: list[ast.stmt]) -> bool:
    return all(isinstance(node, ast.Pass) for node in body)


def is_bare_return(node: ast.stmt) -> bool:
    return isinstance(node, ast.Return) and (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    )


def in_place_of_star(node: ast.expr) -> list[ast.expr]:
    """An argument, or those that `*(a, b)` stands for."""
    match node:
        case ast.Starred(value=ast.List(elts=parts) | ast.Tuple(elts=parts)):
            return parts
        case _:
            return [node]


def is_empty_dict(node: ast.expr) -> bool:
    return isinstance(node, ast.Dict) and not node.values
