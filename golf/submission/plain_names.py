"""Numbers that inlining gave to names, taken off again where nothing has the plain name: `name_3` becomes `name`.

A comprehension's variables are its own, so only what stands in it counts; of a function's variables all that stands in
the function. Parameters keep their names, which callers may use.
Invariant: every name means what it meant before.
"""

from __future__ import annotations

import ast
import builtins
import re
from typing import Any

from golf.submission.walk import walk

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NUMBERED = re.compile(r"(\w*[A-Za-z])((?:_\d)+)")


def without_numbers(tree: ast.Module) -> None:
    """Edit a program in place."""
    functions = [node for node in walk(tree) if isinstance(node, ast.FunctionDef)]
    comprehensions = [node for node in walk(tree) if isinstance(node, COMPREHENSIONS)]
    for node in comprehensions:
        for name in sorted(targets_of(node)):
            if (plain := plain_name(name)) and not occurs(plain, node) and is_own(name, node):
                rename(name, plain, node)
    for function in functions:
        if any(isinstance(node, ast.ClassDef | ast.Lambda) for node in walk(function)):
            continue
        for name in sorted(variables_of(function)):
            if (plain := plain_name(name)) and not meets(name, plain, function):
                rename(name, plain, function)
            elif re.fullmatch(r"_(_\d)+", name) and not is_read(name, function) and not is_read("_", function):
                rename(name, "_", function)


def plain_name(name: str) -> str:
    """The name without its number; "" if it has none, or only a builtin is called so."""
    match = NUMBERED.fullmatch(name)
    return "" if match is None or hasattr(builtins, match[1]) else match[1]


def targets_of(node: Any) -> set[str]:
    """Variables of a comprehension."""
    return {n.id for part in node.generators for n in walk(part.target) if isinstance(n, ast.Name)}


def is_own(name: str, node: Any) -> bool:
    """Whether a name means the comprehension's variable wherever it stands in it."""
    inner = [n for n in walk(node) if n is not node and isinstance(n, (*COMPREHENSIONS, ast.Lambda))]
    if any(isinstance(n, ast.Lambda) or name in targets_of(n) for n in inner):
        return False
    return not occurs(name, node.generators[0].iter)


def variables_of(function: ast.FunctionDef) -> set[str]:
    """What a function assigns, but neither its parameters nor what it shares or binds without an assignment."""
    found: set[str] = set()
    others: set[str] = set()
    inside = {id(n) for f in walk(function) if isinstance(f, ast.FunctionDef) and f is not function for n in walk(f)}
    for node in walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            (others if id(node) in inside else found).add(node.id)
        elif isinstance(node, COMPREHENSIONS):
            others |= targets_of(node)
        else:
            others.update(strings_of(node))
    return found - others


def strings_of(node: ast.AST) -> list[str]:
    """Names that a node has as text: of parameters, functions, errors, imports, matched or shared variables."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    if isinstance(node, ast.alias):
        return [node.asname or node.name.partition(".")[0]]
    found = [node.arg if isinstance(node, ast.arg) else getattr(node, "name", None), getattr(node, "rest", None)]
    return [name for name in found if isinstance(name, str)]


def occurs(name: str, node: ast.AST) -> bool:
    return any(getattr(n, "id", None) == name or name in strings_of(n) for n in walk(node))


def meets(name: str, plain: str, function: ast.FunctionDef) -> bool:
    """Whether a function has the plain name, other than for variables of comprehensions that have nothing to do with
    the numbered one."""
    apart = [
        node
        for node in walk(function)
        if isinstance(node, COMPREHENSIONS)
        and plain in targets_of(node)
        and not occurs(name, node)
        and not occurs(plain, node.generators[0].iter)
    ]
    hidden = {id(n) for node in apart for n in walk(node)}
    seen = (n for n in walk(function) if id(n) not in hidden)
    return any(getattr(n, "id", None) == plain or plain in strings_of(n) for n in seen)


def is_read(name: str, function: ast.FunctionDef) -> bool:
    """Whether a function asks for a variable, or shares it."""
    return any(
        (isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)) or name in strings_of(n)
        for n in walk(function)
    )


def rename(name: str, plain: str, within: ast.AST) -> None:
    for node in walk(within):
        if isinstance(node, ast.Name) and node.id == name:
            node.id = plain
