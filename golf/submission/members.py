"""Attributes and assignments of the abstract interpretation: what `value.name` can be, and what it is set to."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from golf.submission.calls import Calls
from golf.submission.values import (
    ANY,
    NOTHING,
    PLAIN,
    STRANGER,
    UNKNOWN,
    Bound,
    Box,
    ClassFacts,
    Constant,
    Foreign,
    FunctionFacts,
    Instance,
    Scope,
    Value,
    constant,
    foreign,
    foreign_has,
    is_device,
    joined,
    only_constant,
)

RETURN_SELF = {  # methods of torch modules
    *("register_buffer", "register_parameter", "to", "eval", "cuda", "cpu", "requires_grad_", "float", "bfloat16"),
}


class Members(Calls):
    """Reading and writing what variables and objects hold."""

    # -- attributes ---------------------------------------------------------------------------------------------------
    def attribute(self, value: Value, name: str, node: ast.AST) -> Value:
        """What `value.name` can be."""
        found = NOTHING
        for atom in value:
            if isinstance(atom, Instance):
                found |= self.member(atom, name, node)
            elif atom is ANY:
                found |= UNKNOWN
                self.reading("classes")
                self.reading(("attribute", name))
                for facts in self._having(name):
                    if facts.findable:
                        found |= self.member(facts.instance, name, node)
            elif atom is STRANGER:
                set_before = self.held(self.wild, name)
                found |= PLAIN | set_before | (UNKNOWN if set_before else NOTHING)
            elif is_device(atom):
                found |= constant(atom.path.partition(":")[2]) if name == "type" else PLAIN
            elif isinstance(atom, Foreign):
                found |= foreign(f"{atom.path}.{name}")
            elif isinstance(atom, ClassFacts):
                found |= self.class_member(atom, name)
            elif isinstance(atom, Box):
                found |= self.box_member(atom, name)
            elif isinstance(atom, Constant) and atom.value is None:
                continue  # an error when it happens
            else:
                found |= frozenset({Bound(name, atom)}) if isinstance(atom, Constant | Bound) else UNKNOWN
        return found

    def _having(self, name: str) -> list[ClassFacts]:
        """The classes whose instances may have an attribute."""
        if name not in self.having:
            self.having[name] = [
                facts
                for facts in self.classes.values()
                if any(
                    name in item.methods
                    or name in item.attributes
                    or name in item.scope.local
                    or "__getattr__" in item.methods
                    for item in facts.ancestry
                )
            ]
        return self.having[name]

    def member(self, atom: Instance, name: str, node: ast.AST) -> Value:
        """An attribute of an instance: what was assigned, a property, a method, or something a foreign base has."""
        facts, found = atom.of, NOTHING
        for item in facts.lineage():
            found |= self.held(item.attributes, name)
        found |= self.held(self.wild, name)
        method = facts.method(name)
        if method is not None:
            if method.kind == "property":
                return found | self.apply(method, atom, node)
            receiver = facts if method.kind == "classmethod" else None if method.kind == "staticmethod" else atom
            found |= frozenset({method if receiver is None else Bound(method, receiver)})
            if method.kind == "foreign":  # whatever its decorator makes of it
                self.lose(found)
                found |= UNKNOWN
        elif not (facts.is_record and any(name == known for known, _ in facts.all_fields())):
            for item in facts.lineage():  # what the class has until the instance gets its own
                if name in item.scope.local:
                    found |= self.held(item.scope.values, name)
                    break
        if name == "__dict__":
            self.lose(frozenset({atom}))
            facts.structural = True
        if facts.is_record and name in ("_replace", "_asdict", "_fields"):
            return frozenset({Bound(name, atom)})
        if facts.foreign_bases() and method is None and foreign_has(facts.foreign_bases(), name):
            found |= frozenset({Bound(name, atom)}) if name in RETURN_SELF else UNKNOWN
        getter = facts.method("__getattr__")
        if not found and getter is not None:
            self.give(getter, getter.parameters[1].arg, UNKNOWN)
            self.lose_members(facts)
            found = self.apply(getter, atom, node) | UNKNOWN
        if name in ("__class__", "__dict__", "__doc__", "__name__"):
            found |= UNKNOWN
        return found

    def class_member(self, facts: ClassFacts, name: str) -> Value:
        method = facts.method(name)
        if method is not None:
            return frozenset({Bound(method, facts) if method.kind == "classmethod" else method})
        for item in facts.lineage():
            if name in item.scope.local:
                return self.held(item.scope.values, name)
        if facts.foreign_bases():  # a method of its base, which may call those of the class
            self.lose(frozenset({facts}))
            return UNKNOWN
        return UNKNOWN if name.startswith("__") else NOTHING

    def always_has(self, facts: ClassFacts, name: str) -> bool:
        """Whether an instance has an attribute from the end of `__init__` on."""
        if name in self.deleted:
            return False
        known = [name for name, _ in facts.all_fields()] if facts.is_record else []
        if name in known or any(item.scope.values.get(name) for item in facts.lineage()):
            return True
        init = facts.method("__init__")
        return init is not None and any(is_own_assignment(node, name) for node in init.node.body)

    def has_method(self, atom: Any, name: str) -> bool:
        """Whether something is an object of the program with this method, whatever its foreign bases have."""
        return isinstance(atom, Instance) and atom.of.method(name) is not None and name not in self.deleted

    def lose_members(self, facts: ClassFacts) -> None:
        for item in facts.lineage():
            for method in item.methods.values():
                self.lose(frozenset({Bound(method, facts.instance)}))

    # -- assignment ---------------------------------------------------------------------------------------------------
    def assign(self, target: ast.expr, value: Value, scope: Scope, source: ast.expr | None = None) -> None:
        match target:
            case ast.Name():
                self.bind(scope, target.id, value)
            case ast.Attribute():
                self.set_attribute(self.evaluate(target.value, scope), target.attr, value)
            case ast.Subscript():
                key = only_constant(self.evaluate(target.slice, scope))
                if key is not None and isinstance(key.value, int) and key.value < 0:
                    key = None  # an index from the end
                for atom in self.evaluate(target.value, scope):
                    if isinstance(atom, Box):
                        self.put(atom, None if key is None else key.value, value)
                    else:
                        self.lose(value)
            case ast.Starred():
                box = self.box("list", target)
                self.inexact(box)
                self.put(box, None, value)
                self.assign(target.value, frozenset({box}), scope)
            case ast.Tuple() | ast.List():
                self._unpack(target.elts, value, scope)
            case _:
                self.lose(value)

    def _unpack(self, targets: Sequence[ast.expr], value: Value, scope: Scope) -> None:
        star = next((i for i, item in enumerate(targets) if isinstance(item, ast.Starred)), len(targets))
        for atom in value:
            known = self.known_items(frozenset({atom}))
            fits = known is not None and (len(known) == len(targets) or star == len(targets) - 1 <= len(known))
            if known is None or not fits:
                items = self.iterate(frozenset({atom}), None)
                for target in targets:
                    self.assign(target, items, scope)
                continue
            for target, item in zip(targets[:star], known):
                self.assign(target, item, scope)
            if star < len(targets):
                rest = self.box("list", (targets[star], id(atom)))
                for position, item in enumerate(known[star:]):
                    self.put(rest, position, item)
                starred: Any = targets[star]
                self.assign(starred.value, frozenset({rest}), scope)

    def set_attribute(self, receivers: Value, name: str, value: Value) -> None:
        for atom in receivers:
            if isinstance(atom, Instance):
                self._grow_attribute(atom.of, name, value)
            elif isinstance(atom, ClassFacts):
                self._grow(atom.scope.values, name, value)
                self._grow_attribute(atom, name, value)
            elif atom is STRANGER:
                self._grow(self.wild, name, value)
                self.lose(value)
            elif atom is ANY or isinstance(atom, Foreign):
                self._grow(self.wild, name, value)
                if atom is not ANY:
                    self.lose(value)
            elif isinstance(atom, Box):
                self._grow(self.wild, name, value)

    def _grow_attribute(self, facts: ClassFacts, name: str, value: Value) -> None:
        if name not in facts.attributes and value:
            self.having.pop(name, None)
            self.written(("attribute", name))
        self._grow(facts.attributes, name, value)

    def _grow(self, table: dict[str, Value], name: str, value: Value) -> None:
        before = table.get(name, NOTHING)
        grown = joined(before, value)
        if grown != before:
            table[name] = grown
            self.written((id(table), name))

    def bind(self, scope: Scope, name: str, value: Value) -> None:
        owner = scope.owner(name) or scope
        self._grow(owner.values, name, value)

    def give(self, function: FunctionFacts, name: str, value: Value) -> None:
        """Let a parameter be this, too."""
        self._grow(function.scope.values, name, value)


def is_own_assignment(node: ast.stmt, name: str) -> bool:
    """`self.name = …`"""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    items = [item for t in targets for item in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return any(isinstance(item, ast.Attribute) and item.attr == name for item in items)
