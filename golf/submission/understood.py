"""What the specialiser does not follow: a program with any of it is exported as it was written.

That is Python which reaches names or attributes out of sight (exec without a namespace of its own, globals(), writing
to `__dict__`, setattr of names that are made at run time), and syntax that golf's core does without (match, async,
setters of properties, metaclasses, names with two underscores in front).
"""

from __future__ import annotations

import ast

from golf.submission.reads import attribute_table
from golf.submission.walk import walk

SYNTAX = tuple(
    getattr(ast, name)
    for name in ("Match", "AsyncFunctionDef", "AsyncFor", "AsyncWith", "Await", "TryStar", "TypeAlias")
    if hasattr(ast, name)
)
CALLS = {"eval", "globals", "locals", "dir", "delattr", "__import__"}
WRITING = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"}
HOOKS = {"__getattribute__", "__setattr__", "__delattr__", "__init_subclass__", "__class_getitem__", "__set_name__"}
HOOKS |= {"__get__", "__set__", "__slots__"}


def not_understood(tree: ast.Module) -> ast.AST | None:
    """The first thing in a program that the specialiser does not follow; None if there is nothing."""
    return next((node for node in walk(tree) if is_strange(node)), None)


def is_strange(node: ast.AST) -> bool:
    """Whether one node is such a thing."""
    if isinstance(node, ast.FunctionDef):
        ends = [item.attr for item in node.decorator_list if isinstance(item, ast.Attribute)]
        return node.name in HOOKS or bool({"setter", "deleter", "getter"} & set(ends))
    if isinstance(node, ast.ClassDef):
        return bool(node.keywords)
    if isinstance(node, ast.Name):
        return node.id in HOOKS
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("__") and not node.attr.endswith("__")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name, given = node.func.id, node.args
        if name == "setattr":
            return len(given) != 3 or not isinstance(given[1], ast.Constant)
        return name in CALLS or (name == "exec" and len(given) < 2) or (name == "vars" and not given)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in WRITING and attribute_table(node.func.value) is not None
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return attribute_table(node.value) is not None
    return isinstance(node, SYNTAX)
