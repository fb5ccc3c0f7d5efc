"""Which attributes of a program are read, and of which classes."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from golf.submission.interpret import Interpreter
from golf.submission.values import ANY, ClassFacts, Constant, Foreign, Instance
from golf.submission.walk import walk


@dataclass
class Reads:
    """Which attributes are read: of which classes, and of objects that may be anything."""

    of_classes: dict[str, set[ClassFacts]] = field(default_factory=dict)
    of_anything: set[str] = field(default_factory=set)
    whole: set[ClassFacts] = field(default_factory=set)  # every attribute of these is
    tables: set[ClassFacts] = field(default_factory=set)  # every attribute that is the instance's own (no method) is

    def has(self, facts: Interpreter, owner: ClassFacts, name: str) -> bool:
        """Whether somebody may read this attribute of an instance of a class."""
        related = [c for c in facts.classes.values() if owner in c.lineage() or c in owner.lineage()]
        if name in self.of_anything and any(item.findable for item in related):
            return True
        own = set[ClassFacts]() if any(name in item.methods for item in related) else self.tables
        return not (self.of_classes.get(name, set()) | self.whole | own).isdisjoint(related)


def attribute_table(node: ast.AST) -> ast.expr | None:
    """The object of `vars(object)` or `object.__dict__`, through which attributes are reached by their names."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args:
        return node.args[0]
    return node.value if isinstance(node, ast.Attribute) and node.attr == "__dict__" else None


def asked_by_name(node: ast.AST) -> str | None:
    """The name in `"name" in vars(object)`."""
    match node:
        case ast.Compare(left=ast.Constant(value=str() as name), ops=[ast.In() | ast.NotIn()], comparators=[table]):
            return name if attribute_table(table) is not None else None
        case _:
            return None


def all_texts(tree: ast.AST) -> set[str]:
    """Every string of a program, one of which a name that is made at run time is taken to be."""
    return {n.value for n in walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def attribute_reads(tree: ast.AST, facts: Interpreter) -> Reads:
    """Names after a dot that are read, and those that getattr, vars and the like are asked for."""
    reads = Reads()
    every_name = False
    asked: set[int] = set()  # tables of attributes of which one name is asked only
    for node in walk(tree):
        name = asked_by_name(node)
        if name is not None and isinstance(node, ast.Compare):
            asked.add(id(node.comparators[0]))
            reads.of_anything.add(name)
            reads.of_classes.setdefault(name, set()).update(facts.classes.values())
        table = attribute_table(node)
        if table is not None and id(node) not in asked:
            held = facts.values.get(id(table)) or frozenset({ANY})
            reads.tables |= {atom.of for atom in held if isinstance(atom, Instance)}
            if not all(isinstance(atom, Instance) for atom in held):
                reads.of_anything |= all_texts(tree)
                every_name |= not isinstance(table, ast.Name | ast.Attribute)  # `type(x)` is a class that is not seen
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
            elif all(isinstance(a, Foreign) and a is not ANY for a in facts.values.get(id(receiver)) or {ANY}):
                continue  # of torch, say: no name of the program
            else:
                every_name = True
        if receiver is not None and not names and isinstance(node, ast.Call):  # of any name
            held = facts.values.get(id(receiver)) or frozenset({ANY})
            owners = {atom.of if isinstance(atom, Instance) else atom for atom in held}
            reads.whole |= {owner for owner in owners if isinstance(owner, ClassFacts)}
            reads.whole |= {owner for owner in facts.classes.values() if owner.findable} if ANY in held else set()
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
        for name in all_texts(tree):
            reads.of_anything.add(name)
            reads.of_classes.setdefault(name, set()).update(facts.classes.values())
    return reads
