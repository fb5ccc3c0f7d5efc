"""What every expression of a program can be: an abstract interpretation from its entry on.

Starting with the statements at the top level, every function that may be called is run on abstract values, round after
round until nothing new is found. Constants are carried through parameters, attributes and returned values of the whole
program, and a branch whose test cannot be true is never entered; so what is never visited can never run.
Invariant: where something is not understood its value is `ANY`, and what `ANY` may reach counts as reached.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from golf.submission.expressions import Expressions
from golf.submission.values import (
    NOTHING,
    UNKNOWN,
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
    joined,
    result_of,
)
from golf.submission.walk import children, walk

PASSING_DECORATORS = {"torch.no_grad", "torch.inference_mode", "torch.enable_grad", "functools.wraps"}
PASSING_CLASS_DECORATORS = ("dataclass", "runtime_checkable", "final")


class Interpreter(Expressions):
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
            self.returned(function, self.evaluate(function.node.body, function.scope))
        elif self.statements(function.node.body, function.scope):
            self.returned(function, constant(None))
        self.current.pop()

    def returned(self, function: FunctionFacts, value: Value) -> None:
        if function.is_generator:
            box = self.box("list", function.node)
            self.inexact(box)
            value = frozenset({box})
        grown = joined(function.returns, value)
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
                    self.returned(self.current[-1], value)
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
                items = self.iterate(self.evaluate(node.iter, scope), node.iter)
                if items:
                    self.assign(node.target, items, scope)
                    self.statements(node.body, scope)
                self.statements(node.orelse, scope)
            case ast.While():
                outcomes = self.truth(self.test(node.test, scope, True))
                if True in outcomes:
                    self.statements(node.body, scope)
                self.statements(node.orelse, scope)
                return outcomes != {True} or any(isinstance(item, ast.Break) for item in walk(node))
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
                    self._delete(target, scope)
            case _:
                for child in children(node):
                    if isinstance(child, ast.expr):
                        self.lose(self.evaluate(child, scope))
        return True

    def _delete(self, target: ast.expr, scope: Scope) -> None:
        held = self.evaluate(target.value, scope) if isinstance(target, ast.Attribute | ast.Subscript) else NOTHING
        key = self.evaluate(target.slice, scope) if isinstance(target, ast.Subscript) else NOTHING
        for atom in held:
            if isinstance(atom, Box):
                self.at(atom, key)
                self.inexact(atom)

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
            kinds = [None] if handler.type is None else self.class_list(handler.type, scope)
            if handler.name:
                self.bind(scope, handler.name, self._caught(kinds))
            ends = self.statements(handler.body, scope) or ends
        return self.statements(node.finalbody, scope) and ends

    def _caught(self, kinds: list[Any]) -> Value:
        """What a handler of these exceptions is given: only the program itself raises its own ones."""
        if not all(isinstance(kind, ClassFacts) for kind in kinds):
            return UNKNOWN
        self.reading("classes")
        heirs = [facts for facts in self.classes.values() if not set(facts.lineage()).isdisjoint(kinds)]
        made = [facts.value for facts in heirs if facts.instantiated or facts.lost]
        return frozenset[Any]().union(*made)

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
            if isinstance(atom, Instance):
                atom.of.structural = True
            if isinstance(atom, Box):
                self.put(atom, None, self.iterate(added, node.value))
                if isinstance(node.op, ast.BitOr):
                    self.put(atom, None, UNKNOWN)
                    if atom.kind == "dict":
                        self.update(atom, added)
        kept = frozenset(a for a in before if not isinstance(a, Constant))
        in_place = before and all(isinstance(a, Box) and a.kind in ("list", "dict", "set") for a in before)
        self.assign(target, kept | (NOTHING if in_place else result_of(before, added)), scope)

    def _define(self, node: ast.FunctionDef, scope: Scope) -> None:
        function = self.functions[id(node)]
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if isinstance(default, ast.Call):  # which may do something, whether it is taken or not
                self.evaluate(default, scope)
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
        value: Value = frozenset({facts})
        for node in facts.node.bases:
            self.evaluate(node, scope)
        for node in facts.node.decorator_list:
            found = self.evaluate(node, scope)
            if not ast.unparse(node).startswith(PASSING_CLASS_DECORATORS):  # it may do anything with the class
                self.lose(found | value)
                value |= UNKNOWN
        self.statements(facts.node.body, facts.scope)
        self.bind(scope, facts.name, value)

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                path = alias.name if alias.asname else alias.name.partition(".")[0]
                self.bind(scope, alias.asname or path, foreign(path))
            else:
                self.bind(scope, alias.asname or alias.name, foreign(f"{node.module}.{alias.name}"))


def interpreted(tree: ast.Module) -> Interpreter:
    """All facts of a program."""
    found = Interpreter(tree)
    found.run()
    return found
