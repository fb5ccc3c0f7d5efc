"""Calls and containers of the abstract interpretation: who is called with what, and what Python's own functions return.

Everything that golf's core uses of Python (partial, dataclasses, containers, getattr …) is modelled; any other function
gives something unknown, and may do anything with what it is given (`lose`).
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.program_tables import PICKLED
from golf.submission.python_calls import Arguments, PythonCalls
from golf.submission.values import (
    NOTHING,
    UNKNOWN,
    Bound,
    Box,
    ClassFacts,
    Constant,
    Foreign,
    FunctionFacts,
    Instance,
    Value,
    widened,
)

PROTOCOLS = {  # methods that somebody else calls of objects that look like files, mappings, iterators, optimizers …
    *("read", "readinto", "readline", "write", "flush", "close", "seek", "tell", "fileno", "keys", "values", "items"),
    *("get", "update", "append", "send", "throw", "step", "zero_grad", "state_dict", "load_state_dict", "run", "join"),
    *("acquire", "release", "wait", "put"),
}
COMPARING = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__mul__", "__or__"}


class Calls(PythonCalls):
    """What a call does."""

    # -- the call -----------------------------------------------------------------------------------------------------
    def call(self, node: ast.Call, scope: Any) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            return UNKNOWN
        if self.is_super_call(node):
            return self._super_call(node, scope)
        callee = self.evaluate(node.func, scope)
        arguments = self._arguments(node, scope)
        found = NOTHING
        for atom in callee:
            found |= self.invoke(atom, arguments, node, scope)
        return found

    def is_super_call(self, node: ast.Call) -> bool:
        function = node.func
        inner = function.value if isinstance(function, ast.Attribute) else None
        return isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "super"

    def _super_call(self, node: ast.Call, scope: Any) -> Value:
        assert isinstance(node.func, ast.Attribute)
        arguments = self._arguments(node, scope)
        function = self.method_around(scope)
        if function is None or function.owner is None:
            return UNKNOWN
        found = NOTHING
        for atom in function.scope.values.get(function.parameters[0].arg, NOTHING):
            facts = atom.of if isinstance(atom, Instance) else atom
            method = facts.method(node.func.attr, after=function.owner) if isinstance(facts, ClassFacts) else None
            if method is None:
                for value in [*arguments[0], *arguments[1].values()]:
                    self.lose(value)
                found |= UNKNOWN
            else:
                found |= self.invoke(Bound(method, atom), arguments, node, scope)
        return found

    def _arguments(self, node: ast.Call, scope: Any) -> Arguments:
        positional: list[Value] = []
        named: dict[str, Value] = {}
        rest: Value | None = None
        others: Value | None = None
        for part in node.args:
            if isinstance(part, ast.Starred):
                inner = self.evaluate(part.value, scope)
                known = self.known_items(inner)
                if known is not None and rest is None:
                    positional += known
                else:
                    rest = (rest or NOTHING) | self.iterate(inner, part.value)
            elif rest is not None:
                rest |= self.evaluate(part, scope)
            else:
                positional.append(self.evaluate(part, scope))
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, scope)
            if keyword.arg is not None:
                named[keyword.arg] = named.get(keyword.arg, NOTHING) | value
                continue
            sure = self.sure_keys(value)
            for atom in value:
                if isinstance(atom, Box) and atom.exact and not atom.lost:
                    self.reading(id(atom))
                    atom.read_whole = True
                    for key, item in atom.items.items():
                        if key in sure:
                            named[str(key)] = named.get(str(key), NOTHING) | item
                        else:
                            others = (others or NOTHING) | item
                else:
                    others = (others or NOTHING) | (atom.elements() if isinstance(atom, Box) else UNKNOWN)
                    self.reading(id(atom))
                    if isinstance(atom, Box):
                        atom.read_whole = True
        return positional, named, rest, others

    def invoke(self, atom: Any, arguments: Arguments, node: ast.AST, scope: Any = None) -> Value:
        """Call one thing."""
        match atom:
            case FunctionFacts():
                return self.apply(atom, None, node, arguments)
            case Bound(function=FunctionFacts() as function, receiver=receiver):
                return self.apply(function, receiver, node, arguments)
            case Bound(function=str() as name, receiver=receiver):
                return self._member_call(name, receiver, arguments, node)
            case ClassFacts():
                return self.construct(atom, node, arguments)
            case Instance(of=facts):
                method = facts.method("__call__") or (facts.method("forward") if facts.is_module() else None)
                if method is None:
                    self.lose_arguments(arguments)
                    return UNKNOWN
                found = self.apply(method, atom, node, arguments)
                if self.hooked and method.name == "forward":  # a hook is handed the arguments, too
                    self.lose_arguments(arguments)
                    return found | UNKNOWN
                return found
            case Box(kind="partial"):
                self.reading(id(atom))
                positional, named, rest, others = arguments
                joined = [atom.items[key] for key in sorted(k for k in atom.items if isinstance(k, int))]
                own = {key: value for key, value in atom.items.items() if isinstance(key, str)}
                found = NOTHING
                if joined:
                    self.calls.setdefault(id(node), set()).add(None)
                for inner in atom.function:
                    found |= self.invoke(inner, ([*joined, *positional], {**own, **named}, rest, others), node, scope)
                return found
            case Foreign():
                self.calls.setdefault(id(node), set()).add(None)
                return self._foreign_call(atom, arguments, node, scope)
            case Constant():
                return NOTHING
            case _:
                self.lose_arguments(arguments)
                return UNKNOWN

    def apply(
        self, function: FunctionFacts, receiver: Any, node: ast.AST, arguments: Arguments = ([], {}, None, None)
    ) -> Value:
        """Call a function of the program: its parameters may be these, too; the result is what it returned so far."""
        positional, named, rest, others = arguments
        if function.kind == "classmethod" and isinstance(receiver, Instance):
            receiver = receiver.of
        if receiver is not None and function.kind != "staticmethod":
            positional = [frozenset({receiver}), *positional]
        if not function.live:
            function.live = True
            self.dirty[function] = None
        self.reading(id(function))
        self.calls.setdefault(id(node), set()).add((function, receiver is not None))
        if rest is not None or others is not None:
            self.spread.add(function)
        parameters = [parameter.arg for parameter in function.parameters]
        only_named = [parameter.arg for parameter in function.node.args.kwonlyargs]
        for index, name in enumerate([*parameters, *only_named]):
            if index < min(len(positional), len(parameters)):
                self.give(function, name, positional[index])
                continue
            if name in named:
                self.give(function, name, named[name])
                continue
            default = function.default_of(name)
            if default is not None:
                self.give(function, name, self.evaluate(default, function.scope.parent))
            if rest is not None and index < len(parameters):
                self.give(function, name, rest)
            if others is not None:
                self.give(function, name, others)
        self._give_rest(function, parameters, only_named, arguments, positional)
        if function.kind == "foreign":
            self.lose(frozenset({function}))
            return UNKNOWN
        return UNKNOWN if function.node in self.context_managers else function.returns

    def _give_rest(
        self, function: FunctionFacts, parameters: list[str], only_named: list[str], arguments: Any, positional: Any
    ) -> None:
        _, named, rest, others = arguments
        for star, kind in ((function.node.args.vararg, "tuple"), (function.node.args.kwarg, "dict")):
            if star is None:
                continue
            box = self.box(kind, star)
            self.inexact(box)
            if kind == "tuple":
                for value in [*positional[len(parameters) :], *([] if rest is None else [rest])]:
                    self.put(box, None, value)
            else:
                for name, value in named.items():
                    if name not in parameters and name not in only_named:
                        self.put(box, name, value)
                if others is not None:
                    self.put(box, None, others)
            self.give(function, star.arg, frozenset({box}))

    def construct(self, facts: ClassFacts, node: ast.AST, arguments: Arguments) -> Value:
        """Make an instance of a class of the program."""
        atom = facts.instance
        if not facts.instantiated:
            facts.instantiated = True
            self.written("classes")
        for name in [name for item in facts.lineage() for name in item.methods]:
            if name in PICKLED and not self.pickles:
                continue
            if name.startswith("__") and name not in ("__init__", "__call__", "__getattr__", "__new__"):
                self._call_unknown(facts.method(name), atom, node)
        for item in facts.lineage():
            for name, method in item.methods.items():
                if item.foreign_bases() and not name.startswith("__") and self.overrides(item, name):
                    self._call_unknown(method, atom, node)
        method = facts.method("__init__")
        if method is not None:
            self.apply(method, atom, node, arguments)
        elif facts.is_record:
            self._fill(facts, node, arguments)
            after = facts.method("__post_init__")
            if after is not None:
                self.apply(after, atom, node)
        else:
            self.calls.setdefault(id(node), set()).add(None)
            self.lose_arguments(arguments)
        return facts.value

    def _fill(self, facts: ClassFacts, node: ast.AST, arguments: Arguments) -> None:
        """A dataclass or NamedTuple takes its fields."""
        self.records.setdefault(id(node), set()).add(facts)
        positional, named, rest, others = arguments
        for index, (name, default) in enumerate(facts.all_fields()):
            if index < len(positional):
                value = positional[index]
            elif name in named:
                value = named[name]
            else:
                value = NOTHING if default is None else self._default_of_field(default, facts)
                if rest is not None:
                    value |= rest
                if others is not None:
                    value |= others
            self.set_attribute(facts.value, name, value)
        if rest is not None or others is not None:
            facts.structural = True

    def _default_of_field(self, default: ast.expr, facts: ClassFacts) -> Value:
        if isinstance(default, ast.Call) and any(keyword.arg == "default_factory" for keyword in default.keywords):
            self.evaluate(default, facts.scope)
            box = self.box("dict", default)
            self.inexact(box)
            self.put(box, None, UNKNOWN)
            return frozenset({box})
        return self.evaluate(default, facts.scope)

    def _call_unknown(self, method: FunctionFacts | None, receiver: Any, node: ast.AST) -> None:
        if method is None:
            return
        self.answering.add(method)
        self.apply(method, receiver, method.node, ([], {}, UNKNOWN, UNKNOWN))
        peers = UNKNOWN | frozenset({receiver}) if method.name in COMPARING else UNKNOWN
        for parameter in method.parameters[1 if method.kind != "staticmethod" else 0 :]:
            self.give(method, parameter.arg, peers)

    # -- what gets out of sight ---------------------------------------------------------------------------------------
    def lose(self, value: Value) -> None:
        """Somebody unknown has these now: functions may be called with anything, containers hold anything."""
        for atom in value:
            match atom:
                case FunctionFacts():
                    if not atom.lost:
                        atom.lost = True
                        for name in self.parameter_names(atom):
                            if not (atom.owner is not None and name == "self"):
                                self.give(atom, name, UNKNOWN)
                    if not atom.live:
                        atom.live = True
                        self.dirty[atom] = None
                case Bound(function=FunctionFacts() as function, receiver=receiver):
                    self.lose(frozenset({function}))
                    if function.parameters:
                        self.give(function, function.parameters[0].arg, frozenset({receiver}))
                case ClassFacts():
                    if not atom.lost:
                        atom.lost = True
                        self.written("classes")
                        self.construct(atom, atom.node, ([], {}, UNKNOWN, UNKNOWN))
                        atom.structural = True
                case Instance(of=facts):
                    if not facts.lost:
                        facts.lost = True
                        self.written("classes")
                        for name in sorted(PROTOCOLS):
                            self._call_unknown(facts.method(name), atom, facts.node)
                    method = facts.method("__call__")
                    if method is not None:
                        self._call_unknown(method, atom, method.node)
                case Box():
                    if not atom.lost:
                        atom.lost, atom.exact, atom.read_whole = True, False, True
                        atom.others = widened(atom.others | UNKNOWN)
                        self.written(id(atom))
                case _:
                    pass

    def _lose_again(self) -> None:
        """What came into lost containers since then, and what is returned to somebody unknown."""
        for function in self.functions.values():
            if function.lost or function in self.answering:
                self.lose(function.returns)
        for box in list(self.boxes.values()):
            if box.lost:
                self.lose(box.elements() | box.function)
                if box.kind == "partial":
                    for atom in box.function:
                        self.invoke(atom, ([], {}, UNKNOWN, UNKNOWN), box.node)

    def lose_arguments(self, arguments: Arguments) -> None:
        positional, named, rest, others = arguments
        for value in [*positional, *named.values(), rest or NOTHING, others or NOTHING]:
            self.lose(value)

    def lose_in_text(self, value: Value, node: ast.AST) -> None:
        """A value that is formatted into text: its __str__ runs, nothing else happens to it."""
        self.read_containers(value)
        if not isinstance(node, ast.JoinedStr | ast.FormattedValue):
            self.lose(value)
