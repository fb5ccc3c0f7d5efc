"""Which calls of a program change nothing: those that end in functions and constructors that only compute.

Invariant: where it is not known whom a call ends in, it is taken to change something.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.interpret import Interpreter
from golf.submission.pure import is_pure
from golf.submission.values import Bound, ClassFacts, Constant, FunctionFacts, only_constant
from golf.submission.walk import walk


class Effects:
    """What is known of the functions and classes of one program."""

    def __init__(self, facts: Interpreter):
        self.facts = facts
        self.known: dict[Any, bool] = {}  # functions that do nothing but return something

    def pure(self, node: ast.AST | None) -> bool:
        """Whether evaluating a node changes nothing."""
        return is_pure(node, self.harmless)

    def harmless(self, node: ast.Call) -> bool:
        """Whether a call ends in functions of the program that change nothing, or makes an object and nothing else."""
        called = self.facts.values.get(id(node.func), frozenset())
        if only_constant(self.facts.values.get(id(node), frozenset())) and called and all(map(is_encoding, called)):
            return True
        classes = [atom for atom in called if isinstance(atom, ClassFacts)]
        if classes:
            return len(classes) == len(called) and all(map(self.only_makes, classes))
        callees = self.facts.calls.get(id(node), set())
        return bool(callees) and None not in callees and all(self.changes_nothing(f) for f, _ in callees)

    def only_makes(self, facts: ClassFacts) -> bool:
        """Whether making an instance does nothing else."""
        if facts.foreign_bases() or facts.method("__new__") or facts.method("__post_init__"):
            return False
        init = facts.method("__init__")
        return init is None or self.changes_nothing(init)

    def changes_nothing(self, function: FunctionFacts) -> bool:
        """Whether a function only computes; a constructor may set attributes of its object."""
        if function not in self.known:
            self.known[function] = False  # where it calls itself
            plain = function.kind == "plain" and isinstance(function.node, ast.FunctionDef)
            own = function.parameters[0].arg if plain and function.name == "__init__" and function.parameters else ""
            self.known[function] = (
                plain
                and not function.is_generator
                and all(self.only_computes(node, own) for node in function.node.body)
            )
        return self.known[function]

    def only_computes(self, node: ast.stmt, own: str = "") -> bool:
        """Whether a statement does nothing outside of its function, but to the attributes of `own`."""
        if isinstance(node, ast.If):
            inside = [*node.body, *node.orelse]
            return self.pure(node.test) and all(self.only_computes(item, own) for item in inside)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [item for target in targets for item in (getattr(target, "elts", None) or [target])]
            return self.pure(node.value) and all(is_own_target(item, own) for item in parts)
        return isinstance(node, ast.Return | ast.Pass | ast.Expr) and self.pure(getattr(node, "value", None))


def is_encoding(atom: Any) -> bool:
    """Whether something is the `encode` of a known text."""
    return isinstance(atom, Bound) and atom.function == "encode" and isinstance(atom.receiver, Constant)


def is_own_target(node: ast.expr, own: str) -> bool:
    """A variable, or an attribute of the object `own`."""
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == own and bool(own)
    return all(isinstance(item, ast.Name | ast.Tuple) for item in walk(node))
