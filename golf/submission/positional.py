"""Parameters that no call names: positional-only ones, which python-minifier gives the shortest names there are.

A parameter is named by a keyword, or by a key of a mapping behind `**`, so one whose name is neither a keyword nor a
text nor a field of the program cannot be. Left alone are methods that somebody else's class has, too: that one may
call them. Invariant: every call reaches the parameters that it reached before. (What is positional-only is written
without the `/` in the end: python-minifier takes it out again.)
"""

from __future__ import annotations

import ast

from golf.submission.rename import dotted, imported_paths
from golf.submission.values import foreign_members
from golf.submission.walk import walk

OWN_CALLS = {"__init__", "__call__", "forward"}  # methods of torch's classes whose calls the program makes itself


def positional(tree: ast.Module) -> ast.Module:
    """The program, edited in place."""
    nodes = list(walk(tree))
    named = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    named |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    left_alone = called_by_others(nodes)
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.Lambda) or id(node) in left_alone:
            continue
        arguments = node.args
        while arguments.args and arguments.args[0].arg not in named:
            arguments.posonlyargs.append(arguments.args.pop(0))
    return tree


def called_by_others(nodes: list[ast.AST]) -> set[int]:
    """Methods that a class from elsewhere may call: one of its own has their name."""
    imported = imported_paths(nodes)
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    found: set[int] = set()
    for node in classes.values():
        members = foreign_names_of(node, classes, imported) - OWN_CALLS
        found |= {id(item) for item in node.body if isinstance(item, ast.FunctionDef) and item.name in members}
    return found


def foreign_names_of(node: ast.ClassDef, classes: dict[str, ast.ClassDef], imported: dict[str, str]) -> set[str]:
    """Members of all classes that a class comes from and that are not the program's."""
    found: set[str] = set()
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Name) and base.id in classes:
            found |= foreign_names_of(classes[base.id], classes, imported)
        else:
            name = base.id if isinstance(base, ast.Name) and base.id not in imported else ""
            found |= foreign_members(f"builtins.{name}" if name else dotted(base, imported))
    return found
