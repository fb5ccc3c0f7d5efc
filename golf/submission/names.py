"""Which names a piece of syntax reads, binds and mentions: each in one pass, for they are asked all the time."""

from __future__ import annotations

import ast
from collections import Counter

from golf.submission.walk import children, walk

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def identifiers(node: ast.AST) -> set[str]:
    found = set[str]()
    for item in walk(node):
        if isinstance(item, ast.Name):
            found.add(item.id)
        elif isinstance(item, ast.arg):
            found.add(item.arg)
        elif isinstance(item, ast.FunctionDef):
            found.add(item.name)
    return found


def bound_in(node: ast.AST) -> set[str]:
    """Names that a function gives a meaning of its own."""
    found = set[str]()
    for item in walk(node):
        if isinstance(item, ast.Name):
            if not isinstance(item.ctx, ast.Load):
                found.add(item.id)
        elif isinstance(item, ast.arg):
            found.add(item.arg)
        elif isinstance(item, ast.FunctionDef | ast.ClassDef):
            if item is not node:
                found.add(item.name)
        elif isinstance(item, ast.ExceptHandler):
            found.update([item.name] if item.name else [])
        elif isinstance(item, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.partition(".")[0] for alias in item.names)
    return found


def names_read(node: ast.AST) -> Counter[str]:
    """How often each name is read below a node; what comprehensions call their items are names of their own."""
    found: Counter[str] = Counter()
    queue: list[tuple[ast.AST, frozenset[str]]] = [(node, frozenset())]
    while queue:
        item, hidden = queue.pop()
        if isinstance(item, ast.Name):
            if not isinstance(item.ctx, ast.Store) and item.id not in hidden:
                found[item.id] += 1
        elif isinstance(item, COMPREHENSIONS):
            first = item.generators[0]
            own = hidden | {name for part in item.generators for name in bound_in(part.target)}
            queue += [(part, own) for part in children(item) if part is not first]
            queue += [(part, hidden if part is first.iter else own) for part in children(first)]
        else:
            queue += [(part, hidden) for part in children(item)]
    return found
