"""What every expression of a program can be: an abstract interpretation from its entry on.

Starting with the statements at the top level, every function that may be called is run on abstract values, round after
round until nothing new is found. Constants are carried through parameters, attributes and returned values of the whole
program, and a branch whose test cannot be true is never entered; so what is never visited can never run.
Invariant: where something is not understood its value is `ANY`, and what `ANY` may reach counts as reached.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Sequence
from typing import Any

from golf.submission.calls import Calls
from golf.submission.values import (
    ANY,
    BOTH,
    NOTHING,
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
    foreign_has,
    only_constant,
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
RETURN_SELF = {
    "register_buffer",
    "register_parameter",
    "to",
    "eval",
    "cuda",
    "cpu",
    "requires_grad_",
    "float",
    "bfloat16",
}  # of nn.Module
PASSING_DECORATORS = {"torch.no_grad", "torch.inference_mode", "torch.enable_grad", "functools.wraps"}


class Interpreter(Calls):
    """Facts of one program: `values` by node, `visited` statements, functions, classes, `callees` of each call."""

    # -- rounds -------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Rounds until nothing changes; what is visited and still has no value becomes something unknown."""
        while True:
            self._rounds()
            empty = {id(node) for node in self.seen.values() if not self.values.get(id(node))} - self.forced
            if not empty:
                return
            self.forced |= empty

    def _rounds(self) -> None:
        self.dirty = dict.fromkeys([None, *(f for f in self.functions.values() if f.live)])
        while self.dirty:
            function = next(iter(self.dirty))
            del self.dirty[function]
            if function is None:
                self.statements(self.tree.body, self.module)
            else:
                self._body(function)
            if not self.dirty:
                self._lose_again()

    def _body(self, function: FunctionFacts) -> None:
        self.current.append(function)
        if isinstance(function.node, ast.Lambda):
            self._returned(function, self.evaluate(function.node.body, function.scope))
        elif self.statements(function.node.body, function.scope):
            self._returned(function, constant(None))
        self.current.pop()

    def _returned(self, function: FunctionFacts, value: Value) -> None:
        if function.is_generator:
            box = self.box("list", function.node)
            self.inexact(box)
            value = frozenset({box})
        grown = widened(function.returns | value)
        if grown != function.returns:
            function.returns = grown
            self.written(id(function))

    # -- statements ---------------------------------------------------------------------------------------------------
    def statements(self, body: Sequence[ast.stmt], scope: Scope) -> bool:
        """Run statements; whether the end can be reached."""
        kept = dict(self.refined)
        try:
            for node in body:
                self.visited.add(id(node))
                if not self._statement(node, scope):
                    return False
            return True
        finally:
            self.refined = kept

    def _statement(self, node: ast.stmt, scope: Scope) -> bool:
        match node:
            case ast.Return():
                value = constant(None) if node.value is None else self.evaluate(node.value, scope)
                if self.current and not self.current[-1].is_generator:
                    self._returned(self.current[-1], value)
                return False
            case ast.Raise():
                for part in (node.exc, node.cause):
                    if part is not None:
                        self.evaluate(part, scope)
                return False
            case ast.Break() | ast.Continue():
                return False
            case ast.If():
                return self._if(node, scope)
            case ast.Assign():
                value = self.evaluate(node.value, scope)
                for target in node.targets:
                    self.assign(target, value, scope, node.value)
            case ast.AnnAssign():
                if node.value is not None:
                    self.assign(node.target, self.evaluate(node.value, scope), scope, node.value)
            case ast.AugAssign():
                self._augmented(node, scope)
            case ast.Expr():
                self.evaluate(node.value, scope)
            case ast.FunctionDef():
                self._define(node, scope)
            case ast.ClassDef():
                self._class_body(self.classes[id(node)], scope)
            case ast.For():
                self.assign(node.target, self.iterate(self.evaluate(node.iter, scope), node.iter), scope)
                self.statements(node.body, scope)
                self.statements(node.orelse, scope)
            case ast.While():
                outcomes = self.truth(self.test(node.test, scope, True))
                if True in outcomes:
                    self.statements(node.body, scope)
                self.statements(node.orelse, scope)
                return outcomes != {True} or any(isinstance(item, ast.Break) for item in ast.walk(node))
            case ast.Try():
                return self._try(node, scope)
            case ast.With():
                for item in node.items:
                    entered = self.enter(self.evaluate(item.context_expr, scope), item.context_expr)
                    if item.optional_vars is not None:
                        self.assign(item.optional_vars, entered, scope)
                self.statements(node.body, scope)  # a context manager may swallow an exception
            case ast.Assert():
                self.test(node.test, scope, True)
                if node.msg is not None:
                    self.evaluate(node.msg, scope)
            case ast.Import() | ast.ImportFrom():
                self._import(node, scope)
            case ast.Delete():
                for target in node.targets:
                    if isinstance(target, ast.Attribute | ast.Subscript):
                        self.evaluate(target.value, scope)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.lose(self.evaluate(child, scope))
        return True

    def _if(self, node: ast.If, scope: Scope) -> bool:
        outcomes = self.truth(self.evaluate(node.test, scope))
        ends: list[bool] = []
        kept = dict(self.refined)
        after: list[bool] = []
        for outcome, body in ((True, node.body), (False, node.orelse)):
            if outcome in outcomes:
                self.refined = dict(kept)
                self.refine(node.test, scope, outcome)
                ends.append(self.statements(body, scope) if body else True)
                if ends[-1]:
                    after.append(outcome)
        self.refined = dict(kept)
        if len(after) == 1:  # only one way leads on, and what its test says still holds there
            self.refine(node.test, scope, after[0])
        return any(ends) or not outcomes

    def _try(self, node: ast.Try, scope: Scope) -> bool:
        ends = self.statements(node.body, scope)
        if ends:
            ends = self.statements(node.orelse, scope)
        for handler in node.handlers:
            if handler.type is not None:
                self.evaluate(handler.type, scope)
            if handler.name:
                self.bind(scope, handler.name, UNKNOWN)
            ends = self.statements(handler.body, scope) or ends
        return self.statements(node.finalbody, scope) and ends

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> None:
        added = self.evaluate(node.value, scope)
        target = node.target
        before = NOTHING
        if isinstance(target, ast.Name):
            before = self.variable(target.id, scope)
        elif isinstance(target, ast.Attribute):
            before = self.attribute(self.evaluate(target.value, scope), target.attr, target)
        else:
            before = self.subscript(
                self.evaluate(target.value, scope), self.evaluate(target.slice, scope), target.slice
            )
        for atom in before:
            if isinstance(atom, Box):
                self.put(atom, None, self.iterate(added, node.value))
                if isinstance(node.op, ast.BitOr):
                    self.put(atom, None, UNKNOWN)
        self.assign(target, frozenset(a for a in before if not isinstance(a, Constant)) | UNKNOWN, scope)

    def _define(self, node: ast.FunctionDef, scope: Scope) -> None:
        function = self.functions[id(node)]
        value: Value = frozenset({function})
        for decorator in reversed(node.decorator_list):
            found = self.evaluate(decorator, scope)
            paths = {atom.path if isinstance(atom, Foreign) else "" for atom in found}
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(decorator, ast.Call):
                paths |= {a.path for a in self.values.get(id(call), NOTHING) if isinstance(a, Foreign)}
            known = paths & PASSING_DECORATORS
            if not known and function.kind == "plain" and not (paths & {"contextlib.contextmanager"}):
                self.lose(value)
                value = UNKNOWN
        self.bind(scope, node.name, value)

    def _class_body(self, facts: ClassFacts, scope: Scope) -> None:
        for node in facts.node.decorator_list + facts.node.bases:
            self.evaluate(node, scope)
        self.statements(facts.node.body, facts.scope)
        self.bind(scope, facts.name, frozenset({facts}))

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                path = alias.name if alias.asname else alias.name.partition(".")[0]
                self.bind(scope, alias.asname or path, frozenset({Foreign(path)}))
            else:
                self.bind(scope, alias.asname or alias.name, frozenset({Foreign(f"{node.module}.{alias.name}")}))

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
                self._keep(left, scope, lambda atom: atom == ANY or (atom == Constant("NoneType", None)) == wanted)
            case ast.Call(func=ast.Name(id="isinstance"), args=[subject, types]):
                kinds = self.class_list(types, scope)
                self._keep(subject, scope, lambda atom: self.is_instance(atom, kinds) in (None, outcome))
            case ast.Compare(left=ast.Name() as left, ops=[op], comparators=[right]):
                against = self.evaluate(right, scope)
                if against:
                    self._keep(left, scope, lambda atom: outcome in self._outcomes(op, frozenset({atom}), against))
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
            return frozenset({Foreign(f"builtins.{name}")})
        value = self.held(owner.values, name)
        for keep in self.refined.get((id(owner), name), ()):
            value = frozenset(atom for atom in value if keep(atom))
        return value

    # -- expressions --------------------------------------------------------------------------------------------------
    def evaluate(self, node: ast.expr, scope: Scope) -> Value:
        """The value of an expression, and on record what it can be."""
        self.seen[id(node)] = node
        value = widened(self._evaluate(node, scope))
        if id(node) in self.forced:
            value |= UNKNOWN
        before = self.values.get(id(node), NOTHING)
        grown = widened(before | value)
        if grown != before:
            self.values[id(node)] = grown
        return value

    def _evaluate(self, node: ast.expr, scope: Scope) -> Value:
        match node:
            case ast.Constant():
                return constant(node.value) if node.value is not Ellipsis else UNKNOWN
            case ast.Name():
                return self.variable(node.id, scope)
            case ast.Attribute():
                return self.attribute(self.evaluate(node.value, scope), node.attr, node)
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
                self._returned(self.current[-1], NOTHING)
                return UNKNOWN
            case ast.Starred():
                return self.evaluate(node.value, scope)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.lose_in_text(self.evaluate(child, scope), node)
                return UNKNOWN

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
        return UNKNOWN if value else NOTHING

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
            return constant(found) if isinstance(found, int | float | str) and len(repr(found)) < 40 else UNKNOWN
        value = UNKNOWN
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
        operands = [self.evaluate(part, scope) for part in (node.left, *node.comparators)]
        if not all(operands):
            return NOTHING
        found = NOTHING
        for op, left, right in zip(node.ops, operands, operands[1:]):
            outcomes = self._outcomes(op, left, right)
            if len(node.ops) > 1 and outcomes == {False}:
                return constant(False)
            found |= frozenset(atom for outcome in outcomes for atom in constant(outcome))
        if len(node.ops) > 1 and found != constant(True):
            return BOTH
        return found

    def _outcomes(self, op: ast.cmpop, left: Value, right: Value) -> set[bool]:
        none = Constant("NoneType", None)
        if isinstance(op, ast.Is | ast.IsNot) and right == frozenset({none}):
            outcomes = {None if atom == ANY else atom == none for atom in left}
            if None in outcomes:
                return {True, False}
            return {bool(outcome) == isinstance(op, ast.Is) for outcome in outcomes}
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, isinstance(op, ast.In))
        for atom in left | right:
            if isinstance(atom, Instance):
                atom.of.structural = True
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
        for key, part in zip(node.keys, node.values):
            value = self.evaluate(part, scope)
            if key is None:
                self.update(box, value)
                continue
            name = only_constant(self.evaluate(key, scope))
            self.put(box, None if name is None else name.value, value)
            if name is None:
                self.inexact(box)
        return frozenset({box})

    def _comprehension(self, node: Any) -> Value:
        scope = self.scopes[id(node)]
        kept = dict(self.refined)
        kind = {ast.DictComp: "dict", ast.SetComp: "set"}.get(type(node), "list")
        box = self.box(kind, node)
        self.inexact(box)
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
        if enters:
            if isinstance(node, ast.DictComp):
                self.evaluate(node.key, scope)
                self.put(box, None, self.evaluate(node.value, scope))
            else:
                self.put(box, None, self.evaluate(node.elt, scope))
        self.refined = kept
        return frozenset({box})

    # -- attributes ---------------------------------------------------------------------------------------------------
    def attribute(self, value: Value, name: str, node: ast.AST) -> Value:
        """What `value.name` can be."""
        found = NOTHING
        for atom in value:
            if isinstance(atom, Instance):
                found |= self.member(atom, name, node)
            elif atom == ANY:
                found |= UNKNOWN
                self.reading("classes")
                for facts in list(self.classes.values()):
                    if facts.findable and self._may_have(facts, name):
                        found |= self.member(Instance(facts), name, node)
            elif isinstance(atom, Foreign):
                found |= frozenset({Foreign(f"{atom.path}.{name}")})
            elif isinstance(atom, ClassFacts):
                found |= self.class_member(atom, name)
            elif isinstance(atom, Box):
                found |= self.box_member(atom, name)
            elif isinstance(atom, Constant) and atom.value is None:
                continue  # an error when it happens
            else:
                found |= frozenset({Bound(name, atom)}) if isinstance(atom, Constant | Bound) else UNKNOWN
        return found

    def _may_have(self, facts: ClassFacts, name: str) -> bool:
        for item in facts.ancestry:
            self.reading((id(item.attributes), name))
            if (
                name in item.methods
                or name in item.attributes
                or name in item.scope.local
                or "__getattr__" in item.methods
            ):
                return True
        return False

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
        elif not facts.attributes.get(name):
            for item in facts.lineage():
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
        return UNKNOWN if name.startswith("__") or facts.foreign_bases() else NOTHING

    def lose_members(self, facts: ClassFacts) -> None:
        for item in facts.lineage():
            for method in item.methods.values():
                self.lose(frozenset({method}))

    # -- assignment ---------------------------------------------------------------------------------------------------
    def assign(self, target: ast.expr, value: Value, scope: Scope, source: ast.expr | None = None) -> None:
        match target:
            case ast.Name():
                self.bind(scope, target.id, value)
            case ast.Attribute():
                self.set_attribute(self.evaluate(target.value, scope), target.attr, value)
            case ast.Subscript():
                key = only_constant(self.evaluate(target.slice, scope))
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
                self._grow(atom.of.attributes, name, value)
            elif isinstance(atom, ClassFacts):
                self._grow(atom.scope.values, name, value)
                self._grow(atom.attributes, name, value)
            elif atom == ANY or isinstance(atom, Foreign):
                self._grow(self.wild, name, value)
                if atom != ANY:
                    self.lose(value)
            elif isinstance(atom, Box):
                self._grow(self.wild, name, value)

    def _grow(self, table: dict[str, Value], name: str, value: Value) -> None:
        before = table.get(name, NOTHING)
        grown = widened(before | value)
        if grown != before:
            table[name] = grown
            self.written((id(table), name))

    def bind(self, scope: Scope, name: str, value: Value) -> None:
        owner = scope.owner(name) or scope
        self._grow(owner.values, name, value)

    def give(self, function: FunctionFacts, name: str, value: Value) -> None:
        """Let a parameter be this, too."""
        self._grow(function.scope.values, name, value)


def interpreted(tree: ast.Module) -> Interpreter:
    """All facts of a program."""
    found = Interpreter(tree)
    found.run()
    return found
