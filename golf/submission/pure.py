"""Which expressions can be left out: those that do nothing but have a value."""

from __future__ import annotations

import ast
from collections.abc import Callable

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
        "prod",
    ),
    *("repr", "reversed", "callable", "divmod", "vars"),
}
PURE_METHODS = {
    *("get", "items", "keys", "values", "startswith", "endswith", "removeprefix", "removesuffix", "is_cuda", "copy"),
    *("numel", "dim", "isidentifier", "bit_length", "is_file", "is_dir", "max", "min", "fileno"),
}
PURE_PATHS = {
    "os.fstat",
    "torch.device",
    "dist.is_available",
    "dist.is_initialized",
    "dist.get_world_size",
    "dist.get_rank",
    "zlib.decompressobj",
}
DISPLAYS = (
    *(ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.Slice, ast.JoinedStr),
)
SIMPLE = (
    *(ast.Constant, ast.Name, ast.Lambda, ast.expr_context),
    *(ast.operator, ast.cmpop, ast.boolop, ast.unaryop),
)


def is_pure(node: ast.AST | None, harmless: Callable[[ast.Call], bool] | None = None) -> bool:
    """Whether evaluating a node changes nothing (attributes and indices are taken not to).

    `harmless`: tells calls of functions that do nothing but return something.
    """

    def pure(part: ast.AST | None) -> bool:
        return is_pure(part, harmless)

    if node is None or isinstance(node, SIMPLE):
        return True
    if isinstance(node, ast.Attribute | ast.Starred | ast.FormattedValue):
        return pure(node.value)
    if isinstance(node, ast.Subscript):
        return pure(node.value) and pure(node.slice)
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in PURE_CALLS
        known |= isinstance(node.func, ast.Attribute) and node.func.attr in PURE_METHODS and pure(node.func.value)
        known = known and not (isinstance(node.func, ast.Attribute) and node.func.attr == "get" and not node.args)
        known |= isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in PURE_PATHS
        known = known or (harmless is not None and pure(node.func) and harmless(node))
        return known and all(map(pure, node.args)) and all(pure(k.value) for k in node.keywords)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return pure(node.elt) and all(map(pure, node.generators))
    if isinstance(node, ast.DictComp):
        return pure(node.key) and pure(node.value) and all(map(pure, node.generators))
    if isinstance(node, ast.comprehension):
        return pure(node.iter) and all(map(pure, node.ifs))
    return isinstance(node, DISPLAYS) and all(map(pure, children(node)))


def may_raise(node: ast.AST) -> bool:
    """Whether evaluating something pure may end in an exception that somebody waits for."""
    return any(isinstance(item, ast.Call | ast.Subscript | ast.Attribute | ast.BinOp) for item in walk(node))


def waits_for_expressions(node: ast.Try, own: set[str]) -> bool:
    """Whether handlers may be there for what an expression raises that does nothing else: none of these (`own` classes
    of the program, which only a `raise` raises, and OSError)."""
    kinds = [part for handler in node.handlers for part in getattr(handler.type, "elts", [handler.type])]
    return not all(isinstance(kind, ast.Name) and kind.id in {"OSError", *own} for kind in kinds)


def is_trial(node: ast.AST) -> bool:
    """`int(text)` or `table[key]` as a statement of its own: evaluated for the error it may be."""
    names = ("int", "float")
    trial = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    return trial or isinstance(node, ast.Subscript)


def names_loaded(node: ast.AST) -> set[str]:
    """Names that a node reads."""
    return {n.id for n in walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)}
