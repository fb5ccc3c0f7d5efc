"""Which expressions can be left out: those that do nothing but have a value."""

from __future__ import annotations

import ast

from golf.submission.walk import children, walk

PURE_CALLS = {
    *("isinstance", "len", "hasattr", "getattr", "min", "max", "int", "float", "str", "bool", "tuple", "list", "dict"),
    *(
        "set",
        "frozenset",
        "sorted",
        "range",
        "zip",
        "enumerate",
        "partial",
        "abs",
        "round",
        "any",
        "all",
        "sum",
        "type",
    ),
    *("repr", "reversed", "callable", "divmod"),
}
PURE_METHODS = {
    *("get", "items", "keys", "values", "startswith", "endswith", "removeprefix", "removesuffix", "is_cuda", "copy"),
    *("numel", "dim", "isidentifier", "bit_length", "is_file", "is_dir"),
}
DISPLAYS = (
    *(ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.Slice, ast.JoinedStr),
)
SIMPLE = (
    *(ast.Constant, ast.Name, ast.Lambda, ast.expr_context),
    *(ast.operator, ast.cmpop, ast.boolop, ast.unaryop),
)


def is_pure(node: ast.AST | None) -> bool:
    """Whether evaluating a node changes nothing (attributes and indices are taken not to)."""
    if node is None or isinstance(node, SIMPLE):
        return True
    if isinstance(node, ast.Attribute | ast.Starred | ast.FormattedValue):
        return is_pure(node.value)
    if isinstance(node, ast.Subscript):
        return is_pure(node.value) and is_pure(node.slice)
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in PURE_CALLS
        known |= isinstance(node.func, ast.Attribute) and node.func.attr in PURE_METHODS and is_pure(node.func.value)
        return known and all(map(is_pure, node.args)) and all(is_pure(k.value) for k in node.keywords)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return is_pure(node.elt) and all(map(is_pure, node.generators))
    if isinstance(node, ast.DictComp):
        return is_pure(node.key) and is_pure(node.value) and all(map(is_pure, node.generators))
    if isinstance(node, ast.comprehension):
        return is_pure(node.iter) and all(map(is_pure, node.ifs))
    return isinstance(node, DISPLAYS) and all(map(is_pure, children(node)))


def names_loaded(node: ast.AST) -> set[str]:
    """Names that a node reads."""
    return {n.id for n in walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)}
