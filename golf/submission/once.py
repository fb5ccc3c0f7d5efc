"""What is done exactly once, or for nothing: loops over one item, counting that nobody reads, copies of what is new.

Invariant: everything is evaluated as often as before and in the same order.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import Any

from golf.submission.folding import negated
from golf.submission.names import bound_in
from golf.submission.walk import walk

COPYING: dict[str, tuple[type[ast.expr], ...]] = {  # functions, and the expressions of which they make an equal one
    "list": (ast.List, ast.ListComp),
    "tuple": (ast.Tuple,),
    "set": (ast.Set, ast.SetComp),
    "dict": (ast.Dict, ast.DictComp),
}
LOOPS = (ast.For, ast.While)


def done_once(tree: ast.Module) -> None:
    """Edit a program in place."""
    Once(tree).visit(tree)


class Once(ast.NodeTransformer):
    """Loops over one item as their body; `enumerate` and copies only where they say something."""

    def __init__(self, tree: ast.Module):
        self.rebound = bound_in(tree)
        self.reads: Counter[str] = Counter()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        outer = self.reads
        self.reads = outer or all_reads(node)  # of the outermost function
        self.generic_visit(node)
        self.reads = outer
        return node

    # -- loops --------------------------------------------------------------------------------------------------------
    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        self.uncounted(node)
        only = only_item(node.iter)
        if only is None or node.orelse or not isinstance(node.target, ast.Name | ast.Tuple):
            return node
        if any(isinstance(item, ast.Starred | ast.NamedExpr) for item in walk(ast.Tuple([node.target, only]))):
            return node
        if not is_simple(node.body):
            return node
        given = ast.copy_location(ast.Assign([node.target], only), node)
        given.was = node  # type: ignore[attr-defined]  # whose comments are this one's
        return [given, *straight(node.body)]

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        self.generic_visit(node)
        self.uncounted(node)
        return node

    def uncounted(self, node: Any) -> None:
        """`for x in items` instead of `for i, x in enumerate(items)`, where nobody reads `i`."""
        match (node.target, node.iter):
            case (
                ast.Tuple(elts=[ast.Name(id=number), target]),
                ast.Call(func=ast.Name(id="enumerate"), args=[items, *start], keywords=[]),
            ) if not self.reads[number] and self.reads and "enumerate" not in self.rebound:
                if all(isinstance(part, ast.Constant) for part in start) and not isinstance(items, ast.Starred):
                    node.target, node.iter = target, items
            case _:
                pass

    # -- copies -------------------------------------------------------------------------------------------------------
    def visit_Call(self, node: ast.Call) -> Any:
        """`list([a, b])` is `[a, b]`."""
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id=name), args=[given], keywords=[]) if name in COPYING:
                if name in self.rebound:
                    return node
                if isinstance(given, COPYING[name]):
                    return given
                if isinstance(given, ast.List | ast.Tuple):
                    return of_kind(name, node, given)
            case _:
                pass
        return node


def of_kind(name: str, node: ast.Call, given: ast.List | ast.Tuple) -> ast.expr:
    """A display as the kind of container that a call makes of it."""
    if name == "list":
        return ast.copy_location(ast.List(given.elts, ast.Load()), node)
    if name == "tuple":
        return ast.copy_location(ast.Tuple(given.elts, ast.Load()), node)
    if name == "set" and given.elts:
        return ast.copy_location(ast.Set(given.elts), node)
    if name == "set":
        node.args = []
    return node


def all_reads(node: ast.AST) -> Counter[str]:
    """Names that are read in a function, also by comprehensions, and those that others share."""
    found = Counter(n.id for n in walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store))
    shared = [name for n in walk(node) if isinstance(n, ast.Nonlocal | ast.Global) for name in n.names]
    changed = [n.target.id for n in walk(node) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)]
    return found + Counter(shared) + Counter(changed)


def only_item(node: ast.expr) -> ast.expr | None:
    """The item of a display of one; of a dictionary's `items()` key and value."""
    match node:
        case ast.List(elts=[item]) | ast.Tuple(elts=[item]) if not isinstance(item, ast.Starred):
            return item
        case ast.Call(
            func=ast.Attribute(value=ast.Dict(keys=[ast.expr() as key], values=[value]), attr="items"),
            args=[],
            keywords=[],
        ):
            return ast.copy_location(ast.Tuple([key, value], ast.Load()), node)
        case _:
            return None


def is_simple(body: list[ast.stmt]) -> bool:
    """Whether only tests end in `break` or `continue`, each in one of its branches."""
    for node in body:
        if isinstance(node, ast.Break | ast.Continue):
            return True  # what is behind it never runs
        if jumps(node):
            if not isinstance(node, ast.If):
                return False
            stays = [branch for branch in (node.body, node.orelse) if without_jump(branch) is None]
            if len(stays) != 1 or any(map(jumps, stays[0])):
                return False
    return True


def straight(body: list[ast.stmt]) -> list[ast.stmt]:
    """A simple body of a loop that is run once, without `break` and `continue`."""
    for position, node in enumerate(body):
        if isinstance(node, ast.Break | ast.Continue):
            return body[:position] or [ast.copy_location(ast.Pass(), node)]
        if isinstance(node, ast.If) and jumps(node):
            rest = straight(body[position + 1 :])
            inside = without_jump(node.body)
            if inside is not None:  # `if test: …; break`
                node.body, node.orelse = inside, [*node.orelse, *rest]
            else:
                node.body, node.orelse = [*node.body, *rest], without_jump(node.orelse) or []
            if not node.body and node.orelse:
                node.test, node.body, node.orelse = negated(node.test), node.orelse, []
            node.body = node.body or [ast.copy_location(ast.Pass(), node)]
            return [*body[:position], node]
    return body


def without_jump(body: list[ast.stmt]) -> list[ast.stmt] | None:
    """Statements before a `break` or `continue` at their end; None if there is none, or another one."""
    if not body or not isinstance(body[-1], ast.Break | ast.Continue) or any(map(jumps, body[:-1])):
        return None
    return body[:-1]


def jumps(node: ast.AST) -> bool:
    """Whether a statement may end or go on with the loop around it."""
    if isinstance(node, ast.Break | ast.Continue):
        return True
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
        return False
    inside = node.orelse if isinstance(node, LOOPS) else list(ast.iter_child_nodes(node))
    return any(map(jumps, inside))
