"""Records, objects and tuples that hold one thing and are only asked for it: that thing stands in their place.

`DepthPlan((Phase(visits),))`, of which only `plan.phases[0].visits` is read, becomes `visits`. Invariant: nothing else
is ever done with what is taken away: it is handed on, kept in variables, attributes and containers, and asked for the
one thing; nobody compares, unpacks, shows or counts it, and nobody outside of the program gets it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from golf.submission.checks import without_docstring
from golf.submission.interpret import Interpreter
from golf.submission.pure import names_loaded
from golf.submission.records import fields_of
from golf.submission.unused import all_annotations
from golf.submission.unwrapping import Unwrapping
from golf.submission.values import Bound, Box, ClassFacts, Constant, Foreign, FunctionFacts, Instance, foreign_has
from golf.submission.walk import children, copied, walk

LOOKING_ON = {"enumerate", "zip", "list", "tuple", "len", "reversed", "iter"}
KEEPING = {"append", "extend", "insert", "get", "items", "keys", "values", "pop", "update", "setdefault", "copy"}
ASKING = {"index", "count"}
FILLING = {"append", "extend", "insert", "update"}
HANDING_ON = (ast.Return, ast.Lambda, ast.NamedExpr, ast.Yield, ast.arguments)
GATHERING = (ast.Tuple, ast.List, ast.ListComp, ast.GeneratorExp)


@dataclass(eq=False)
class Wrapper:
    """A class of objects with one thing in them, or the place that makes a tuple of one: where they come from."""

    atom: Any
    field: Any  # the name, or 0
    made: list[tuple[ast.expr, ast.expr]]  # what makes one, and what is in it
    annotation: ast.expr | None = None


def unwrapped(tree: ast.Module, facts: Interpreter) -> bool:
    """Edit a program in place; whether anything was done. The facts are not those of the program from then on."""
    return Wrappers(tree, facts).run()


class Wrappers:
    """All wrappers of a program, and where they and what holds them can be."""

    def __init__(self, tree: ast.Module, facts: Interpreter):
        self.tree, self.facts = tree, facts
        self.nodes = list(walk(tree))
        self.present = set(map(id, self.nodes))
        self.parents = {id(child): node for node in self.nodes for child in children(node)}

    def run(self) -> bool:
        wrappers = [*self.records(), *self.displays()]
        if not wrappers:
            return False
        self.where: dict[Any, list[ast.expr]] = defaultdict(list)
        for node in [n for n in self.nodes if isinstance(n, ast.expr)]:
            for atom in self.facts.values.get(id(node), ()):
                if isinstance(atom, Box | Instance):
                    self.where[atom].append(node)
        self.held_by: dict[Any, set[Any]] = defaultdict(set)
        for box in self.facts.boxes.values():
            for atom in box.elements() | box.function:
                self.held_by[atom].add(box)
        for item in self.facts.classes.values():
            for value in item.attributes.values() if item.is_record else ():
                for atom in value:
                    self.held_by[atom].add(item.instance)
        kept = [wrapper for wrapper in wrappers if self.is_only_asked(wrapper)]
        if kept:
            self.unwrap(kept)
        return bool(kept)

    def unwrap(self, wrappers: list[Wrapper]) -> None:
        inner = {id(made): held for wrapper in wrappers for made, held in wrapper.made}
        uses = [(self.parents[id(node)], wrapper) for wrapper in wrappers for node in self.where[wrapper.atom]]
        asked = {id(around) for around, wrapper in uses if self.is_access(around, wrapper)}
        types = {w.atom.of.name: w.annotation for w in wrappers if w.annotation is not None}
        Unwrapping(inner, asked, types).visit(self.tree)

    # -- candidates ---------------------------------------------------------------------------------------------------
    def records(self) -> list[Wrapper]:
        notes = [n for item in all_annotations(self.tree) for n in walk(item)]
        noted = set(map(id, notes))
        uses: dict[str, list[ast.Name]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(node, ast.Name) and id(node) not in noted:
                uses[node.id].append(node)
        found: list[Wrapper] = []
        for facts in self.facts.classes.values():
            field = only_field(facts.node) if id(facts.node) in self.present else None
            if field is None or facts.lost or facts.structural or facts.scope.parent is not self.facts.module:
                continue
            name, annotation, default = field
            if self.facts.module.assignments.get(facts.name) != 1 or name in self.facts.wild:
                continue
            if annotation is not None and facts.name in names_loaded(annotation):
                continue
            made = [self.maker(use, name, default, facts) for use in uses[facts.name]]
            if made and None not in made:
                known = [pair for pair in made if pair is not None]
                found.append(Wrapper(facts.instance, name, known, annotation))
        return found

    def maker(self, use: ast.Name, field: str, default: Any, facts: ClassFacts) -> tuple[ast.expr, ast.expr] | None:
        """The call of a class that is named somewhere, and what it is given."""
        call: Any = self.parents.get(id(use))
        if not isinstance(call, ast.Call) or call.func is not use:
            return None
        if not self.facts.values.get(id(use), frozenset()) <= {facts}:  # something else has this name here
            return None
        match (call.args, call.keywords):
            case ([ast.Starred()], _):
                return None
            case ([inner], []):
                return call, inner
            case ([], [ast.keyword(arg=name, value=inner)]) if name == field:
                return call, inner
            case ([], []) if isinstance(default, ast.Constant):
                return call, copied(default)
            case _:
                return None

    def displays(self) -> list[Wrapper]:
        found: list[Wrapper] = []
        for box in self.facts.boxes.values():
            node = box.node
            if not isinstance(node, ast.Tuple | ast.List) or id(node) not in self.present or len(node.elts) != 1:
                continue
            known = box.exact and not box.lost and not box.others and set(box.items) == {0}
            if known and isinstance(node.ctx, ast.Load) and not isinstance(node.elts[0], ast.Starred):
                found.append(Wrapper(box, 0, [(node, node.elts[0])]))
        return found

    # -- what is done with them ---------------------------------------------------------------------------------------
    def is_only_asked(self, wrapper: Wrapper) -> bool:
        atom = wrapper.atom
        own = set(map(id, walk(atom.of.node))) if isinstance(atom, Instance) else set[int]()
        nodes = [node for node in self.where[atom] if id(node) not in own]
        if any(len(self.facts.values[id(node)]) != 1 or not self.is_handed_on(node, wrapper) for node in nodes):
            return False
        holders, queue = set[Any](), [atom]
        while queue:
            for holder in self.held_by[queue.pop()] - holders:
                holders.add(holder)
                queue.append(holder)
        if any(h.lost if isinstance(h, Box) else (h.of.lost or h.of.structural) for h in holders):
            return False
        if not all(self.is_private(facts, {atom, *holders}) for facts in self.facts.classes.values()):
            return False
        if wrapper.annotation is None and isinstance(atom, Instance) and self.is_noted(atom.of.name):
            return False
        return all(self.is_looked_at(node, holders) for holder in holders for node in self.where[holder])

    def is_private(self, facts: ClassFacts, atoms: set[Any]) -> bool:
        """Whether nobody else looks at what objects of a class hold of these; what its body holds is for others."""
        if not all(atoms.isdisjoint(value) for value in facts.scope.values.values()):
            return False
        names = [name for name, value in facts.attributes.items() if not atoms.isdisjoint(value)]
        bases = facts.foreign_bases()
        seen = any(foreign_has(bases, name) for name in names) if bases else facts.lost
        return not names or not (seen or facts.structural)

    def is_noted(self, name: str) -> bool:
        """Whether the type of a field names a class."""
        bodies = [node.body for node in self.nodes if isinstance(node, ast.ClassDef)]
        fields = [item.annotation for body in bodies for item in body if isinstance(item, ast.AnnAssign)]
        return any(name in names_loaded(field) for field in fields)

    def is_access(self, node: Any, wrapper: Wrapper) -> bool:
        """`value.field` or `value[0]`, which is read."""
        if isinstance(node, ast.Attribute):
            return node.attr == wrapper.field and isinstance(node.ctx, ast.Load)
        index = node.slice if isinstance(node, ast.Subscript) else None
        is_zero = isinstance(index, ast.Constant) and type(index.value) is int and index.value == 0
        return is_zero and wrapper.field == 0 and isinstance(node.ctx, ast.Load)

    def is_handed_on(self, node: ast.expr, wrapper: Wrapper) -> bool:
        """Whether what is done with a wrapper can be done with what is in it."""
        around: Any = self.parents[id(node)]
        if isinstance(around, ast.Attribute | ast.Subscript):
            return around.value is node and self.is_access(around, wrapper)
        if isinstance(around, ast.Assign | ast.AnnAssign):
            targets = around.targets if isinstance(around, ast.Assign) else [around.target]
            return around.value is node and all(self.takes(target, wrapper) for target in targets)
        if isinstance(around, ast.Dict):
            return any(value is node for key, value in zip(around.keys, around.values) if key is not None)
        if isinstance(around, ast.DictComp):
            return around.value is node
        if isinstance(around, ast.IfExp):
            return around.test is not node
        if isinstance(around, ast.keyword):
            call: Any = self.parents[id(around)]
            return isinstance(call, ast.Call) and around.arg is not None and self.is_own_call(call)
        if isinstance(around, ast.Call):
            return around.func is not node and self.is_own_call(around)
        return isinstance(around, (*HANDING_ON, *GATHERING))

    def takes(self, target: ast.expr, wrapper: Wrapper) -> bool:
        """Whether a target holds what is in a wrapper as it held that; a torch module registers what it is given."""
        if not isinstance(target, ast.Attribute):
            return isinstance(target, ast.Subscript) or (isinstance(target, ast.Name) and target.id[:2] != "__")
        if not self.is_of_own(target):
            return False
        receivers = self.facts.values[id(target.value)]
        registers = any(atom.of.foreign_bases() for atom in receivers)
        return not registers or all(self.is_mere(item) for _, item in wrapper.made)

    def is_of_own(self, target: ast.Attribute) -> bool:
        """Whether an attribute is one of objects of the program."""
        receivers = self.facts.values.get(id(target.value), frozenset({None}))
        return all(isinstance(atom, Instance) for atom in receivers)

    def is_mere(self, node: ast.expr | None, seen: frozenset[Any] = frozenset()) -> bool:
        """Whether a torch module takes something for a mere value, and also what it may be in place of which."""
        return all(self.is_mere_atom(atom, seen) for atom in self.facts.values.get(id(node), frozenset({None})))

    def is_mere_atom(self, atom: Any, seen: frozenset[Any]) -> bool:
        if isinstance(atom, Box) and isinstance(atom.node, (*GATHERING, ast.Dict, ast.DictComp)):
            held = atom.elements() if len(getattr(atom.node, "elts", ())) == 1 else frozenset[Any]()
        elif isinstance(atom, Instance) and not atom.of.foreign_bases():
            values = atom.of.attributes.values()
            held = frozenset[Any]().union(*(values if len(values) == 1 else ()))
        else:
            return isinstance(atom, Constant | FunctionFacts | ClassFacts)
        return atom in seen or all(self.is_mere_atom(item, seen | {atom}) for item in held)

    def is_own_call(self, call: ast.Call) -> bool:
        """Whether a call ends in the program itself, or only puts something into a list."""
        return all(
            isinstance(atom, FunctionFacts | ClassFacts)
            or (isinstance(atom, Bound) and (isinstance(atom.function, FunctionFacts) or atom.function == "append"))
            for atom in self.facts.values.get(id(call.func), frozenset({None}))
        )

    def is_looked_at(self, node: ast.expr, holders: set[Any]) -> bool:
        """Whether what is done with a container asks nothing of what is in it."""
        around: Any = self.parents[id(node)]
        if isinstance(around, ast.Compare | ast.FormattedValue | ast.Set | ast.SetComp | ast.BinOp | ast.AugAssign):
            return False
        if isinstance(around, ast.Dict) and any(key is node for key in around.keys):
            return False
        if (isinstance(around, ast.Subscript) and around.slice is node) or (
            isinstance(around, ast.DictComp) and around.key is node
        ):
            return False
        if isinstance(around, ast.For | ast.comprehension) and around.iter is node:
            return isinstance(around.target, ast.Name)
        if isinstance(around, ast.Assign):
            return all(self.takes_container(target) for target in around.targets)
        if isinstance(around, ast.AnnAssign):
            return self.takes_container(around.target)
        if isinstance(around, ast.Attribute):
            objects = all(isinstance(atom, Instance) for atom in self.facts.values[id(node)])
            return around.attr[:2] != "__" and around.attr not in ASKING if objects else around.attr in KEEPING
        if isinstance(around, ast.Starred):  # what is in it is handed to a call
            around = self.parents[id(around)]
            return isinstance(around, ast.Tuple | ast.List) or (
                isinstance(around, ast.Call) and self.is_own_call(around)
            )
        call = self.parents[id(around)] if isinstance(around, ast.keyword) else around
        if isinstance(call, ast.Call) and call.func is not node:
            return self.is_own_call(call) or self.is_harmless_call(call)
        return True

    def takes_container(self, target: ast.expr) -> bool:
        """Whether a target only keeps a container, or what is in it."""
        if isinstance(target, ast.Tuple):
            return all(isinstance(item, ast.Name) for item in target.elts)
        if isinstance(target, ast.Attribute):
            return self.is_of_own(target)
        return isinstance(target, ast.Name | ast.Subscript)

    def is_harmless_call(self, call: ast.Call) -> bool:
        callees = self.facts.values.get(id(call.func), frozenset({None}))
        return all(
            (isinstance(atom, Foreign) and atom.path.removeprefix("builtins.") in LOOKING_ON)
            or (isinstance(atom, Bound) and atom.function in FILLING)
            for atom in callees
        )


def only_field(node: ast.ClassDef) -> tuple[str, ast.expr | None, ast.expr | None] | None:
    """The name, type and default of the only thing that objects of a class hold; None if they have or do more."""
    body = without_docstring(node.body)
    if len(body) != 1 or node.keywords:
        return None
    (item,) = body
    if isinstance(item, ast.AnnAssign):
        fields = fields_of(node)
        return next(((name, item.annotation, default) for name, default in fields.items()), None)
    if node.bases or node.decorator_list or not isinstance(item, ast.FunctionDef) or item.name != "__init__":
        return None
    match item:
        case ast.FunctionDef(
            args=ast.arguments(
                posonlyargs=[],
                args=[ast.arg(arg=own), ast.arg(arg=given)],
                vararg=None,
                kwonlyargs=[],
                kwarg=None,
                defaults=[],
            ),
            body=[
                ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id=receiver), attr=name)],
                    value=ast.Name(id=value),
                )
            ],
            decorator_list=[],
        ) if (own, given) == (receiver, value) and given == name:
            return name, None, None
        case _:
            return None
