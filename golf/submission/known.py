"""What can only be one function or class of the program is written as its name, wherever it was handed to.

So is an object without any state, as a call of its class: any two of them are the same. A configuration of parts, each
handed down to where it is used, becomes calls of those parts. Invariant: an expression is replaced only where its name
means the same thing, and where nothing but calling it and looking up its methods can be done with it.
"""

from __future__ import annotations

import ast
from types import BuiltinFunctionType, FunctionType
from typing import Any

from golf.submission.interpret import Interpreter
from golf.submission.values import Box, ClassFacts, Foreign, FunctionFacts, Instance, Value, foreign, foreign_object
from golf.submission.walk import walk

MOST_USES = 8  # of a function that is written by its path wherever it is called
OF_PARTIALS = {"keywords", "func", "args"}


def is_dtype(atom: Foreign) -> bool:
    """Whether something foreign is a `torch.dtype`."""
    return atom.path.startswith("torch.") and type(foreign_object(atom.path)).__name__ == "dtype"


def is_of_class(facts: ClassFacts, name: str) -> bool:
    """Whether a class itself has a member of this name, which a function would be a method as."""
    return any(name in item.scope.values or item.foreign for item in facts.lineage())


def is_function(atom: Foreign) -> bool:
    """Whether something foreign is a function of a module, by the name that it has there."""
    return atom.path.count(".") == 1 and isinstance(foreign_object(atom.path), FunctionType | BuiltinFunctionType)


class KnownNames:
    """Functions, classes and objects without state of a program, by the names they have at its top level."""

    def __init__(self, facts: Interpreter):
        self.facts = facts
        self.bound: set[str] | None = None  # names that mean something else where the folder is; None = top level
        nodes = list(walk(facts.tree))
        self.partials_are_read = any(isinstance(n, ast.Attribute) and n.attr in OF_PARTIALS for n in nodes)
        self.compared = {atom for node in nodes for atom in self._identified(node)}
        self.defaults = self.default_functions(nodes)
        self.top = {node.name for node in facts.tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}

    def _identified(self, node: ast.AST) -> set[Any]:
        """What may be told from another: by a comparison (but with None), or as a key."""
        match node:
            case ast.Compare(comparators=[ast.Constant(value=None)]):
                parts: list[ast.expr | None] = []
            case ast.Compare():
                parts = [node.left, *node.comparators]
            case ast.Subscript():
                parts = [node.slice]
            case ast.Set():
                parts = [*node.elts]
            case ast.Dict():
                parts = [*node.keys]
            case (
                ast.Call(func=ast.Attribute(attr="index" | "count" | "remove"))
                | ast.Call(func=ast.Name(id="id" | "hash"))
            ):
                parts = [*node.args]
            case _:
                parts = []
        held = [self.facts.values.get(id(part), frozenset()) for part in parts if part is not None]
        inside = [atom.elements() for value in held for atom in value if isinstance(atom, Box)]
        return set().union(*held, *inside)

    def expression(self, value: Value, node: ast.expr) -> ast.expr | None:
        """The name of the only thing that a value is; None if there is no such name here."""
        if len(value) != 1 or self.bound is None:
            return None
        (atom,) = value
        if isinstance(atom, Foreign):
            return self.foreign_name(atom, node)
        made = isinstance(atom, Instance)
        if made and (not self.is_stateless(atom.of) or (isinstance(node, ast.Name) and node.id == "self")):
            return None
        named = atom.of if isinstance(atom, Instance) else atom
        if not isinstance(named, FunctionFacts | ClassFacts) or not self.is_at_top(named):
            return None
        if isinstance(node, ast.Name) and not made and node.id == named.name:
            return None
        if made and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == named.name:
            return None
        name: ast.expr = ast.copy_location(ast.Name(named.name, ast.Load()), node)
        return ast.copy_location(ast.Call(name, [], []), node) if made else name

    def foreign_name(self, atom: Foreign, node: ast.expr) -> ast.expr | None:
        """A type of numbers by its path, `torch.bfloat16`, or a function that nothing else is given for."""
        head, _, name = atom.path.rpartition(".")
        if head in (self.bound or ()) or ast.unparse(node) == atom.path:
            return None
        if not is_dtype(atom) and not (atom in self.defaults and self.is_handed_down(node)):
            return None
        if self.facts.module.values.get(head) != foreign(head) or self.facts.module.assignments.get(head) != 1:
            return None
        return ast.copy_location(
            ast.Attribute(ast.copy_location(ast.Name(head, ast.Load()), node), name, ast.Load()), node
        )

    def default_functions(self, nodes: list[ast.AST]) -> set[Any]:
        """Functions of modules that are the default of a parameter, and are called in few places by another name."""
        found: set[Any] = set()
        for function in self.facts.functions.values():
            for parameter in function.parameters if function.live and not function.lost else []:
                default = function.default_of(parameter.arg)
                value = self.facts.values.get(id(default), frozenset())
                found |= value if value == function.scope.values.get(parameter.arg) else frozenset()
        found = {atom for atom in found if isinstance(atom, Foreign) and is_function(atom)}
        found = {atom for atom in found if atom.path.rpartition(".")[2] not in self.facts.wild}
        uses = [next(iter(value)) for node in nodes if len(value := self.facts.values.get(id(node), ())) == 1]
        return {atom for atom in found if uses.count(atom) <= MOST_USES}

    def is_handed_down(self, node: ast.expr) -> bool:
        """Whether a node is a variable of a function, or an attribute of an object of the program."""
        if isinstance(node, ast.Name):
            return node.id in (self.bound or ())
        if not isinstance(node, ast.Attribute):
            return False
        owners = self.facts.values.get(id(node.value), frozenset({None}))
        return all(isinstance(a, Instance) and not is_of_class(a.of, node.attr) for a in owners)

    def is_at_top(self, named: FunctionFacts | ClassFacts) -> bool:
        """Whether a definition is the only one of its name, and the name means it here."""
        if named.name in (self.bound or ()) or named.name not in self.top:
            return False
        if isinstance(named, FunctionFacts) and (named.owner is not None or isinstance(named.node, ast.Lambda)):
            return False
        outer = named.scope.parent
        return outer is not None and outer is self.facts.module and outer.assignments.get(named.name) == 1

    def is_stateless(self, facts: ClassFacts) -> bool:
        """Whether instances of a class hold nothing, and nobody asks which of them one is."""
        if facts.foreign_bases() or facts.is_record or facts.lost or facts.all_fields():
            return False
        if any(item.attributes or "__init__" in item.methods or "__new__" in item.methods for item in facts.lineage()):
            return False
        return facts.instance not in self.compared and "__eq__" not in facts.methods

    def is_bare_partial(self, node: ast.Call) -> bool:
        """`partial(function)`, which is the function itself to those who only call it."""
        if self.partials_are_read or len(node.args) != 1 or node.keywords:
            return False
        box = self.facts.boxes.get((id(node), "partial"))
        if not isinstance(box, Box) or box.lost or box.items:
            return False
        return all(isinstance(atom, FunctionFacts | ClassFacts) for atom in box.function)
