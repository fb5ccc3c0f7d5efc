"""Expressions of the abstract interpretation, and what the outcome of a test says about a variable."""

from __future__ import annotations

import ast
import operator
from typing import Any

from golf.submission.members import Members
from golf.submission.values import (
    ANY,
    BOTH,
    NONE,
    NOTHING,
    PLAIN,
    STRANGER,
    UNKNOWN,
    Box,
    Constant,
    Instance,
    Scope,
    Value,
    constant,
    foreign,
    only_constant,
    result_of,
    widened,
)

OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class Expressions(Members):
    """The value of every kind of expression."""

    # -- tests and what they tell -------------------------------------------------------------------------------------
    def test(self, node: ast.expr, scope: Scope, outcome: bool) -> Value:
        """Evaluate a test and keep what its being `outcome` says for the statements that follow."""
        value = self.evaluate(node, scope)
        self.refine(node, scope, outcome)
        return value

    def refine(self, node: ast.expr, scope: Scope, outcome: bool) -> None:
        """Remember for the current block what a variable cannot be, given a test's outcome."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.refine(operand, scope, not outcome)
            case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) == outcome:
                for value in values:
                    self.refine(value, scope, outcome)
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(value=None)]):
                wanted = isinstance(op, ast.Is) == outcome
                self._keep(left, scope, lambda atom: atom is ANY or atom is STRANGER or (atom is NONE) == wanted)
            case ast.Call(func=ast.Name(id="isinstance"), args=[subject, types]):
                kinds = self.class_list(types, scope)
                self._keep(subject, scope, lambda atom: self.is_instance(atom, kinds) in (None, outcome))
            case ast.Compare(left=ast.Name() as left, ops=[op], comparators=[right]):
                against = self.evaluate(right, scope)
                if against:
                    outcomes = self._outcomes
                    self._keep(left, scope, lambda atom: outcome in outcomes(op, frozenset({atom}), against, node))
            case ast.Name():
                self._keep(node, scope, lambda atom: outcome in self.truth(frozenset({atom})))
            case _:
                pass

    def _keep(self, node: ast.expr, scope: Scope, keep: Any) -> None:
        if not isinstance(node, ast.Name):
            return
        owner = scope.owner(node.id)
        if owner is not None and owner is not self.module and owner.assignments.get(node.id, 0) <= 1:
            key = (id(owner), node.id)
            checks = self.refined.get(key, ())
            self.refined[key] = (*checks, keep)

    def variable(self, name: str, scope: Scope) -> Value:
        owner = scope.owner(name)
        if owner is None:
            return foreign(f"builtins.{name}")
        value = self.held(owner.values, name)
        for keep in self.refined.get((id(owner), name), ()):
            value = frozenset(atom for atom in value if keep(atom))
        return value

    # -- expressions --------------------------------------------------------------------------------------------------
    def evaluate(self, node: ast.expr, scope: Scope) -> Value:
        """The value of an expression, and on record what it can be."""
        key = id(node)
        self.seen[key] = node
        value = widened(self._evaluate(node, scope))
        if key in self.forced:
            value |= UNKNOWN
        before = self.values.get(key, NOTHING)
        if not value <= before:
            self.values[key] = widened(before | value)
        return value

    def _evaluate(self, node: ast.expr, scope: Scope) -> Value:
        kind = type(node)  # the most frequent kinds first, and by the quickest test
        if kind is ast.Name:
            return self.variable(node.id, scope)  # type: ignore[attr-defined]
        if kind is ast.Attribute:
            return self.attribute(self.evaluate(node.value, scope), node.attr, node)  # type: ignore[attr-defined]
        match node:
            case ast.Constant():
                return constant(node.value) if node.value is not Ellipsis else UNKNOWN
            case ast.Call():
                return self.call(node, scope)
            case ast.BoolOp():
                return self._bool(node, scope)
            case ast.IfExp():
                outcomes = self.truth(self.evaluate(node.test, scope))
                value, kept = NOTHING, dict(self.refined)
                for outcome, branch in ((True, node.body), (False, node.orelse)):
                    if outcome in outcomes:
                        self.refined = dict(kept)
                        self.refine(node.test, scope, outcome)
                        value |= self.evaluate(branch, scope)
                self.refined = kept
                return value
            case ast.UnaryOp():
                return self._unary(node, scope)
            case ast.BinOp():
                return self._binary(node, scope)
            case ast.Compare():
                return self._compare(node, scope)
            case ast.List() | ast.Tuple() | ast.Set():
                return self._display(node, scope)
            case ast.Dict():
                return self._dict(node, scope)
            case ast.Subscript():
                return self.subscript(self.evaluate(node.value, scope), self.evaluate(node.slice, scope), node.slice)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node)
            case ast.Lambda():
                return frozenset({self.functions[id(node)]})
            case ast.NamedExpr():
                value = self.evaluate(node.value, scope)
                self.assign(node.target, value, scope)
                return value
            case ast.Yield():
                if node.value is not None:
                    self.put(self.box("list", self.current[-1].node), None, self.evaluate(node.value, scope))
                self.returned(self.current[-1], NOTHING)
                return UNKNOWN
            case ast.YieldFrom():
                given = self.iterate(self.evaluate(node.value, scope), node.value)
                self.put(self.box("list", self.current[-1].node), None, given)
                self.returned(self.current[-1], NOTHING)
                return UNKNOWN
            case ast.Starred():
                return self.evaluate(node.value, scope)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.lose_in_text(self.evaluate(child, scope), node)
                return PLAIN if isinstance(node, ast.JoinedStr) else UNKNOWN

    def _bool(self, node: ast.BoolOp, scope: Scope) -> Value:
        is_and, value, kept = isinstance(node.op, ast.And), NOTHING, dict(self.refined)
        for position, part in enumerate(node.values):
            found = self.evaluate(part, scope)
            last = position == len(node.values) - 1
            stays = found if last else frozenset(a for a in found if (not is_and) in self.truth(frozenset({a})))
            value |= stays
            if not last and is_and not in self.truth(found):
                break
            self.refine(part, scope, is_and)
        self.refined = kept
        return value

    def _unary(self, node: ast.UnaryOp, scope: Scope) -> Value:
        value = self.evaluate(node.operand, scope)
        if isinstance(node.op, ast.Not):
            found = NOTHING
            for outcome in self.truth(value):
                found |= constant(not outcome)
            return found
        known = only_constant(value)
        if known is not None and isinstance(known.value, int | float) and isinstance(node.op, ast.USub):
            return constant(-known.value)
        return result_of(value) if value else NOTHING

    def _binary(self, node: ast.BinOp, scope: Scope) -> Value:
        left, right = self.evaluate(node.left, scope), self.evaluate(node.right, scope)
        if not left or not right:
            return NOTHING
        a, b = only_constant(left), only_constant(right)
        operation = OPERATORS.get(type(node.op))
        if a is not None and b is not None and operation is not None:
            try:
                found = operation(a.value, b.value)
            except Exception:  # the program raises the same one, at its time
                return UNKNOWN
            return constant(found) if isinstance(found, int | float | str) and len(repr(found)) < 40 else PLAIN
        value = result_of(left, right)
        for atom in left | right:
            if isinstance(atom, Instance):
                self.lose(frozenset({atom}))
            if isinstance(atom, Box) and isinstance(node.op, ast.Add | ast.BitOr):
                joined = self.box(atom.kind, node)
                self.inexact(joined)
                atom.read_whole = True
                self.reading(id(atom))
                self.put(joined, None, atom.elements())
                value = (value - UNKNOWN) | frozenset({joined})
        return value

    def _compare(self, node: ast.Compare, scope: Scope) -> Value:
        match node:
            case ast.Compare(
                ast.Constant(str(name)),
                [ast.In()],
                [ast.Call(ast.Name("vars"), [ast.Call(ast.Name("type"), [one], [])], [])],
            ):
                held = self.evaluate(one, scope)
                if held and all(isinstance(atom, Instance) for atom in held):
                    return self._joined({name in atom.of.own_names() for atom in held if isinstance(atom, Instance)})
            case _:
                pass
        operands = [self.evaluate(part, scope) for part in (node.left, *node.comparators)]
        if not all(operands):
            return NOTHING
        found = NOTHING
        for op, left, right in zip(node.ops, operands, operands[1:]):
            outcomes = self._outcomes(op, left, right, node)
            if len(node.ops) > 1 and outcomes == {False}:
                return constant(False)
            found |= frozenset(atom for outcome in outcomes for atom in constant(outcome))
        if len(node.ops) > 1 and found != constant(True):
            return BOTH
        return found

    def _outcomes(self, op: ast.cmpop, left: Value, right: Value, node: ast.AST) -> set[bool]:
        if isinstance(op, ast.Is | ast.IsNot) and right == frozenset({NONE}):
            outcomes = {None if atom is ANY or atom is STRANGER else atom is NONE for atom in left}
            if None in outcomes:
                return {True, False}
            return {bool(outcome) == isinstance(op, ast.Is) for outcome in outcomes}
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, isinstance(op, ast.In))
        if isinstance(op, ast.Eq | ast.NotEq) and left == right and len(left) == 1:
            fields = self._fields_of_equals(next(iter(left)), node)
            if fields and not all(fields):
                return set()
            constants = [only_constant(field) for field in fields]
            if fields and all(known is not None and known.value == known.value for known in constants):
                return {isinstance(op, ast.Eq)}
        for atom in left | right:
            if isinstance(atom, Instance):
                atom.of.structural = True
        self.read_containers(left | right)
        compare = COMPARISONS.get(type(op))
        constants = [atom for atom in left | right if isinstance(atom, Constant)]
        if compare is None or len(constants) != len(left | right) or len(left) * len(right) > 16:
            return {True, False}
        outcomes = set()
        for a in left:
            for b in right:
                try:
                    outcomes.add(bool(compare(a.value, b.value)))
                except TypeError:
                    return {True, False}
        return outcomes

    def _fields_of_equals(self, atom: Any, node: ast.AST) -> list[Value]:
        """What the fields of records can be that are equal where their fields are; [] of anything else."""
        if not isinstance(atom, Instance) or not atom.of.is_record or atom.of.foreign_bases():
            return []
        for item in atom.of.lineage():
            marks = [ast.unparse(mark) for mark in item.node.decorator_list]
            if any("eq=" in mark or mark.split("(")[0] != "dataclass" for mark in marks):
                return []
            if not {"__eq__", "__ne__"}.isdisjoint({*item.own_names(), *item.attributes, *item.scope.values}):
                return []
        names = [name for name, _ in atom.of.all_fields()]
        return [] if self.deleted & set(names) else [self.attribute(atom.of.value, name, node) for name in names]

    def _display(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Value:
        kind = type(node).__name__.lower()
        box = self.box(kind, node)
        position: int | None = 0
        for part in node.elts:
            if isinstance(part, ast.Starred):
                inner = self.evaluate(part.value, scope)
                known = self.known_items(inner)
                if known is None or position is None:
                    self.put(box, None, self.iterate(inner, part.value))
                    self.inexact(box)
                    position = None
                    continue
                for item in known:
                    self.put(box, position, item)
                    position += 1
            else:
                self.put(box, position, self.evaluate(part, scope))
                position = None if position is None else position + 1
        return frozenset({box})

    def _dict(self, node: ast.Dict, scope: Scope) -> Value:
        box = self.box("dict", node)
        keys = [None if key is None else only_constant(self.evaluate(key, scope)) for key in node.keys]
        there = {key.value for key in keys if key is not None}
        if len(node.keys) > 1:
            for key, part in zip(node.keys, node.values):
                there |= self.sure_keys(self.evaluate(part, scope)) if key is None else set()
        for key, name, part in zip(node.keys, keys, node.values):
            value = self.evaluate(part, scope)
            if key is None:
                self.update(box, value, made=True, there=there)
                continue
            self.put(box, None if name is None else name.value, value, made=True)
            if name is None:
                self.inexact(box)
        return frozenset({box})

    def _comprehension(self, node: Any) -> Value:
        scope = self.scopes[id(node)]
        kept = dict(self.refined)
        kind = {ast.DictComp: "dict", ast.SetComp: "set"}.get(type(node), "list")
        box = self.box(kind, node)
        if isinstance(node, ast.DictComp) and self._filtered(node, box, scope):
            self.refined = kept
            return frozenset({box})
        enters = True
        for generator in node.generators:
            outer = self.outer_scopes[id(node)] if generator is node.generators[0] else scope
            items = self.iterate(self.evaluate(generator.iter, outer), generator.iter)
            if not items:
                enters = False
            self.assign(generator.target, items, scope)
            for check in generator.ifs:
                if enters and True not in self.truth(self.test(check, scope, True)):
                    enters = False
        self.inexact(box)
        if enters:
            if isinstance(node, ast.DictComp):
                self.evaluate(node.key, scope)
                self.put(box, None, self.evaluate(node.value, scope))
            else:
                self.put(box, None, self.evaluate(node.elt, scope))
        self.refined = kept
        return frozenset({box})

    def _filtered(self, node: ast.DictComp, box: Box, scope: Scope) -> bool:
        """`{key: value for key, value in known.items() if …}`: item by item, where `known` is known exactly."""
        generator = node.generators[0]
        match (generator.target, generator.iter, node.key, node.value):
            case (
                ast.Tuple(elts=[ast.Name(id=key), ast.Name(id=held)]),
                ast.Call(func=ast.Attribute(value=ast.Name() as known, attr="items"), args=[]),
                ast.Name(id=same_key),
                ast.Name(id=same_held),
            ) if (key, held) == (same_key, same_held) and len(node.generators) == 1:
                pass
            case _:
                return False
        sources = self.evaluate(known, self.outer_scopes[id(node)])
        if not sources or not all(isinstance(a, Box) and a.exact and not a.lost for a in sources):
            return False
        self.assign(generator.target, self.iterate(self.evaluate(generator.iter, scope.parent or scope), None), scope)
        kept = dict(self.refined)
        for source in sources:
            self.reading(id(source))
            for name, value in source.items.items():
                for variable, atoms in ((key, constant(name)), (held, value)):
                    self.refined[(id(scope), variable)] = (lambda atom, atoms=atoms: atom in atoms,)
                outcomes = [self.truth(self.test(check, scope, True)) for check in generator.ifs]
                if not all(outcome == {True} for outcome in outcomes) and all(True in outcome for outcome in outcomes):
                    self.inexact(box)
                if all(True in outcome for outcome in outcomes):
                    self.put(box, name, value, made=True)
                    if len(sources) > 1 or name in source.unsure:
                        self.inexact(box)
                self.refined = dict(kept)
        self.evaluate(node.key, scope)
        self.evaluate(node.value, scope)
        return True
