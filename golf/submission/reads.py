"""Which attributes of a program are read, and of which classes."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from golf.submission.interpret import Interpreter
from golf.submission.values import ANY, ClassFacts, Constant, Instance
from golf.submission.walk import walk


@dataclass
class Reads:
    """Which attributes are read: of which classes, and of objects that may be anything."""

    of_classes: dict[str, set[ClassFacts]] = field(default_factory=dict)
    of_anything: set[str] = field(default_factory=set)

    def has(self, facts: Interpreter, owner: ClassFacts, name: str) -> bool:
        """Whether somebody may read this attribute of an instance of a class."""
        related = [c for c in facts.classes.values() if owner in c.lineage() or c in owner.lineage()]
        if name in self.of_anything and any(item.findable for item in related):
            return True
        return not self.of_classes.get(name, set()).isdisjoint(related)


def attribute_reads(tree: ast.AST, facts: Interpreter) -> Reads:
    """Names after a dot that are read, and those that getattr and the like are called with."""
    reads = Reads()
    every_name = False
    for node in walk(tree):
        names: set[str] = set()
        receiver: ast.expr | None = None
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            names, receiver = {node.attr}, node.value
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            names, receiver = {node.target.attr}, node.target.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            receiver = node.args[0]
            held = facts.values.get(id(node.args[1]), frozenset({None}))
            if isinstance(node.args[1], ast.Constant):
                names = {str(node.args[1].value)}
            elif all(isinstance(atom, Constant) for atom in held):
                names = {str(atom.value) for atom in held}
            else:
                every_name = True
        if receiver is None or not names:
            continue
        for atom in facts.values.get(id(receiver), frozenset({ANY})) or {ANY}:
            owner = atom.of if isinstance(atom, Instance) else atom
            for name in names:
                if isinstance(owner, ClassFacts):
                    reads.of_classes.setdefault(name, set()).add(owner)
                elif atom is ANY:
                    reads.of_anything.add(name)
    if every_name:
        texts = {n.value for n in walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        for name in texts:
            reads.of_anything.add(name)
            reads.of_classes.setdefault(name, set()).update(facts.classes.values())
    return reads
