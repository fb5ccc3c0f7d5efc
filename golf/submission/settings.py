"""The one program's fields are names of the module: `self.program.network` becomes `NETWORK`.

An exported file has one `Program`, made by `program()` for `main`; what was handed from function to function only to
read a field of it need not be handed on. What reads it as a whole goes on doing so.
Invariant: there is one such object, whose fields never change; they are evaluated once, in their order, before main.
"""

from __future__ import annotations

import ast
import builtins

from golf.submission.checks import without_docstring
from golf.submission.interpret import Interpreter
from golf.submission.unused import all_annotations, bound_names
from golf.submission.values import ClassFacts, Instance
from golf.submission.walk import walk


def fields_as_globals(tree: ast.Module, facts: Interpreter) -> bool:
    """Edit a program in place that ends with `def program(): return …` and the call of main; whether it changed."""
    match tree.body[-2:]:
        case [
            ast.FunctionDef(name="program", decorator_list=[]) as maker,
            ast.If(body=[ast.Expr(value=ast.Call(args=[ast.Call(args=[ast.Call(func=ast.Name("program"))])]))]),
        ]:
            pass
        case _:
            return False
    match without_docstring(maker.body):
        case [ast.Return(ast.Call(func=ast.Name(kind), args=[]) as call)] if all(item.arg for item in call.keywords):
            made = next((item for item in facts.classes.values() if item.name == kind), None)
        case _:
            return False
    if made is None or not is_only_read(made, maker, tree, facts):
        return False
    taken = {name for node in walk(tree) for name in own_names(node)} | set(dir(builtins))
    names = {str(keyword.arg): new_name(str(keyword.arg), taken) for keyword in call.keywords}
    changed = Fields(facts, made, names).edit(tree) > 0
    if changed:
        at = tree.body.index(maker)
        tree.body[at:at] = [
            ast.copy_location(ast.Assign([ast.Name(names[str(k.arg)], ast.Store())], k.value), k.value)
            for k in call.keywords
        ]
        call.keywords = [ast.keyword(k.arg, ast.Name(names[str(k.arg)], ast.Load())) for k in call.keywords]
    return changed


def is_only_read(made: ClassFacts, maker: ast.FunctionDef, tree: ast.Module, facts: Interpreter) -> bool:
    """Whether a class is a frozen record of which there is one object."""
    notes = {id(part) for note in all_annotations(tree) for part in walk(note)}
    names = [n for n in walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in notes]
    calls = [n for n in names if facts.functions.get(id(maker)) in facts.values.get(id(n), frozenset())]
    made_at = [n for n in names if n.id == made.name]
    frozen = any("frozen=True" in ast.unparse(item) for item in made.node.decorator_list)
    simple = made.is_record and frozen and not made.structural and not made.methods and not made.lost
    return simple and len(calls) == len(made_at) == 1


def own_names(node: ast.AST) -> list[str]:
    """Names that a node gives something or reads."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    return bound_names(node) if isinstance(node, ast.stmt) else []


def new_name(field: str, taken: set[str]) -> str:
    found = field.upper()
    while found in taken:
        found += "_"
    taken.add(found)
    return found


class Fields(ast.NodeTransformer):
    """Names of the module where fields of the one object are read."""

    def __init__(self, facts: Interpreter, made: ClassFacts, names: dict[str, str]):
        self.facts, self.made, self.names, self.found = facts, made, names, 0

    def edit(self, tree: ast.Module) -> int:
        """How many were found."""
        self.visit(tree)
        return self.found

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        held = self.facts.values.get(id(node.value), frozenset())
        if node.attr in self.names and len(held) == 1 and is_plain(node.value):
            atom = next(iter(held))
            if isinstance(atom, Instance) and atom.of is self.made:
                self.found += 1
                return ast.copy_location(ast.Name(self.names[node.attr], ast.Load()), node)
        return self.generic_visit(node)


def is_plain(node: ast.AST) -> bool:
    """Whether an expression is a variable or an attribute of one."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and is_plain(node.value))
