"""What Python's own functions return in the abstract interpretation; any other one may do anything (`lose`)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from golf.submission.tables import Tables
from golf.submission.values import (
    ANY,
    BOTH,
    DEVICE,
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
    Value,
    constant,
    foreign,
    foreign_object,
    is_device,
    only_constant,
    result_of,
)

Arguments = tuple[list[Value], dict[str, Value], Value | None, Value | None]  # positional, by name, *rest, **rest
KEEPS_ELEMENTS = {"list", "tuple", "sorted", "reversed", "set", "iter", "frozenset"}
COMPUTED = {"max", "min", "len", "round", "int", "float"}
PURE_TYPES = {"str", "int", "float", "bool", "list", "dict", "tuple", "set", "bytes"}
STRING_METHODS = {"startswith", "endswith", "removeprefix", "removesuffix", "lower", "upper", "encode"}
CONTAINERS = (  # modules with things that give back what they were given
    *("collections.", "queue.", "types.", "threading.", "weakref.", "itertools.", "heapq.", "multiprocessing."),
    *("contextlib.", "contextvars.", "functools.", "copy.", "array.", "torch.nn.Sequential", "torch.nn.Module"),
)
READS = {
    "builtins." + name
    for name in (
        *("len", "print", "str", "int", "float", "bool", "repr", "abs", "round", "sum", "any", "all", "id", "hash"),
        *("format", "range", "type", "divmod", "pow", "ord", "chr", "memoryview", "bytes", "open", "max", "min"),
    )
}


class PythonCalls(Tables):
    """Built-in functions, functools, dataclasses, and methods of containers."""

    # -- Python's own functions ---------------------------------------------------------------------------------------
    def _foreign_call(self, atom: Foreign, arguments: Arguments, node: Any, scope: Any) -> Value:
        positional, named, rest, others = arguments
        name = atom.path.removeprefix("builtins.")
        first = positional[0] if positional else NOTHING
        match name:
            case "getattr" | "hasattr" if len(positional) > 1:
                return self._dynamic(name, positional, node)
            case "setattr" if len(positional) == 3:
                known = only_constant(positional[1])
                if known is not None:
                    self.set_attribute(first, known.value, positional[2])
                    return constant(None)
            case "isinstance" if isinstance(node, ast.Call) and len(node.args) == 2:
                kinds = self.class_list(node.args[1], scope)
                return self._joined({self.is_instance(one, kinds) for one in first})
            case "functools.partial" if positional:
                return self._partial(node, arguments)
            case "torch.compile" if positional:
                return first
            case "enumerate" | "zip":
                return self._zipped(name, node, positional)
            case "dict":
                box = self.box("dict", node)
                if rest or others:
                    self.inexact(box)
                for value in positional:
                    self.update(box, value, made=True, there=named)
                for key, value in named.items():
                    self.put(box, key, value, made=True)
                return frozenset({box})
            case "torch.nn.ModuleList":
                box = self.box("list", node)
                self.inexact(box)
                self.put(box, None, self.iterate(first, None) if first else NOTHING)
                return frozenset({box})
            case "torch.nn.ModuleDict":
                box = self.box("dict", node)
                self.inexact(box)
                self.update(box, first)
                return frozenset({box})
            case "next":
                return self.iterate(first, None) | (positional[1] if len(positional) > 1 else NOTHING) | UNKNOWN
            case "range" if len(positional) == 1 and self._short_length(first) is not None:
                box = self.box("list", node)
                for index in range(self._short_length(first) or 0):
                    self.put(box, index, constant(index))
                return frozenset({box})
            case "torch.device" if positional:
                return self._device(first)
            case "max" | "min" | "len" | "round" | "int" | "float" if (
                self._computed(name, positional, named) is not None
            ):
                return constant(self._computed(name, positional, named))
            case "dataclasses.replace" | "dataclasses.asdict" | "dataclasses.fields" | "dataclasses.astuple":
                return self._record_call(name, arguments, node)
            case "any" | "all" if first and not named:
                outcomes = self.truth(self.iterate(first, None))
                if outcomes <= {name == "all"}:
                    return constant(name == "all")
                return BOTH
            case "vars" if first:
                return self._vars(first, node)
            case "bool" if first:
                return self._joined(self.truth(first))
            case _ if name in KEEPS_ELEMENTS:
                if not first:
                    return frozenset({self.box("list", node)})
                for value in named.values():
                    self.lose(value)
                return self._copied(first, node, reordered=name in ("sorted", "reversed", "set", "frozenset"))
            case _:
                pass
        if atom.path not in READS:
            self.lose_arguments(arguments)
        else:
            for value in [*positional, *named.values(), rest or NOTHING, others or NOTHING]:
                self._read_by_python(value)
        if name in ("max", "min", "sum", "next") and positional:
            inner = self.iterate(first, None) if len(positional) == 1 else frozenset().union(*positional)
            return result_of(inner) | frozenset(a for a in inner if not isinstance(a, Constant))
        if name in ("open", "len", "str", "repr", "int", "float", "abs", "round", "format", "range", "hash", "id"):
            return PLAIN
        if atom.path.startswith(CONTAINERS):
            return UNKNOWN
        if atom is ANY:  # perhaps a method of a torch module of the program
            return UNKNOWN
        return result_of(*positional, *named.values(), rest or NOTHING, others or NOTHING)

    def _read_by_python(self, value: Value) -> None:
        self.read_containers(value)
        for atom in value:
            if isinstance(atom, Instance):
                atom.of.structural = True
            elif isinstance(atom, FunctionFacts | Bound):
                self.lose(frozenset({atom}))

    @staticmethod
    def _short_length(value: Value) -> int | None:
        """A number of turns so small that each counts."""
        known = only_constant(value)
        return known.value if known is not None and type(known.value) is int and 0 <= known.value <= 4 else None

    @staticmethod
    def _device(value: Value) -> Value:
        """A device whose type is known, or one that is not."""
        found = NOTHING
        for atom in value:
            if isinstance(atom, Constant) and isinstance(atom.value, str):
                found |= foreign(DEVICE + atom.value.partition(":")[0])
            else:
                found |= frozenset({atom}) if is_device(atom) else PLAIN
        return found

    @staticmethod
    def _joined(outcomes: set[Any]) -> Value:
        if None in outcomes:
            return BOTH
        return frozenset(atom for outcome in outcomes for atom in constant(bool(outcome)))

    def _computed(self, name: str, positional: list[Value], named: dict[str, Value]) -> Any:
        """max, min, len and the like of what is known exactly."""
        if named:
            return None
        if name in ("round", "int", "float"):
            number = only_constant(positional[0]) if len(positional) == 1 else None
            if (
                number is None
                or type(number.value) not in (int, float)
                or number.value in (float("inf"), float("-inf"))
            ):
                return None
            return {"round": round, "int": int, "float": float}[name](number.value)
        if name == "len":
            known = self.known_items(positional[0]) if len(positional) == 1 else None
            text = only_constant(positional[0]) if positional else None
            if text is not None and isinstance(text.value, str | bytes):
                return len(text.value)
            return None if known is None else len(known)
        constants = [only_constant(value) for value in positional]
        if len(constants) < 2 or any(c is None or not isinstance(c.value, int | float) for c in constants):
            return None
        numbers = [c.value for c in constants if c is not None]
        return max(numbers) if name == "max" else min(numbers)

    def _dynamic(self, name: str, positional: list[Value], node: ast.AST) -> Value:
        wanted = only_constant(positional[1])
        if len(positional[1]) > 1 and all(isinstance(atom, Constant) for atom in positional[1]):
            joined = [
                self._dynamic(name, [positional[0], frozenset({key}), *positional[2:]], node) for key in positional[1]
            ]
            return frozenset().union(*joined)
        if wanted is None or not isinstance(wanted.value, str):
            owners = [
                a.of if isinstance(a, Instance) else a for a in positional[0] if isinstance(a, Instance | ClassFacts)
            ]
            if ANY in positional[0]:
                self.reading("classes")
                owners += [facts for facts in self.classes.values() if facts.findable]
            for facts in owners:
                self.lose_members(facts)
                facts.structural = True
                self.lose(frozenset().union(*facts.attributes.values()) if facts.attributes else NOTHING)
            if not positional[1]:
                return NOTHING
            return BOTH if name == "hasattr" else UNKNOWN
        found = NOTHING
        outcomes: set[Any] = set()
        for atom in positional[0]:
            inner = self.attribute(frozenset({atom}), wanted.value, node)
            if self.has_method(atom, wanted.value):
                found, outcomes = found | inner, outcomes | {True}  # whatever its foreign bases have
                continue
            known = not (isinstance(atom, Foreign) or (isinstance(atom, Instance) and atom.of.foreign_bases()))
            if isinstance(atom, Instance) and known and inner == UNKNOWN:
                known = False
            if isinstance(atom, Constant | FunctionFacts | Box | Bound):
                inner, known = NOTHING if isinstance(atom, Constant) else UNKNOWN, isinstance(atom, Constant)
            found |= inner
            sure = not isinstance(atom, Instance) or not inner or self.always_has(atom.of, wanted.value)
            known = known and sure and not (isinstance(atom, Instance) and atom.of.lost)
            outcomes.add(bool(inner) if known else None)
            if not inner and isinstance(atom, Instance) and atom.of.foreign_bases():
                outcomes.discard(None)
                outcomes.add(False)
        if name == "hasattr":
            return self._joined(outcomes)
        if len(positional) > 2 and (outcomes != {True}):
            found |= positional[2]
        return found

    def _partial(self, node: ast.AST, arguments: Arguments) -> Value:
        positional, named, rest, others = arguments
        box = self.box("partial", node)
        if not positional[0] <= box.function:
            box.function |= positional[0]
            self.written(id(box))
        for index, value in enumerate(positional[1:]):
            self.put(box, index, value)
        for key, value in named.items():
            self.put(box, key, value)
        if rest is not None or others is not None:
            self.lose(frozenset({box}))
        return frozenset({box})

    def _zipped(self, name: str, node: ast.AST, positional: Sequence[Value]) -> Value:
        inner, outer = self.box("tuple", node), self.box("list", (node, "all"))
        self.inexact(outer)
        parts = [self.iterate(value, None) for value in (positional[:1] if name == "enumerate" else positional)]
        for index, value in enumerate([PLAIN, *parts] if name == "enumerate" else parts):
            self.put(inner, index, value)
        if all(parts):
            self.put(outer, None, frozenset({inner}))
        return frozenset({outer})

    def _copied(self, value: Value, node: ast.AST, reordered: bool) -> Value:
        box = self.box("list", node)
        known = None if reordered else self.known_items(value)
        if known is None:
            self.inexact(box)
            self.put(box, None, self.iterate(value, None))
        else:
            for index, item in enumerate(known):
                self.put(box, index, item)
        return frozenset({box})

    def _vars(self, value: Value, node: ast.AST) -> Value:
        """The attributes of instances, as a dictionary."""
        box = self.box("dict", node)
        for atom in value:
            if isinstance(atom, Instance) and not atom.of.foreign_bases():
                atom.of.structural = box.read_whole = True
                for name in [*atom.of.attributes]:
                    self.put(box, name, self.held(atom.of.attributes, name))
            else:
                self.lose(frozenset({atom, box}))
        return frozenset({box})

    def _record_call(self, name: str, arguments: Arguments, node: ast.AST) -> Value:
        positional, named, _, others = arguments
        if name != "dataclasses.replace":
            for atom in positional[0]:
                facts = atom.of if isinstance(atom, Instance) else atom
                if isinstance(facts, ClassFacts):
                    facts.structural = True
                    self.lose(frozenset().union(*facts.attributes.values()) if facts.attributes else NOTHING)
            return UNKNOWN
        for atom in positional[0]:
            if isinstance(atom, Instance):
                self.records.setdefault(id(node), set()).add(atom.of)
                for key, value in named.items():
                    self.set_attribute(frozenset({atom}), key, value)
                if others is not None:
                    atom.of.structural = True
        return positional[0]

    def _member_call(self, name: str, receiver: Any, arguments: Arguments, node: ast.AST) -> Value:
        """A method that is not the program's own: of a container, a constant, a NamedTuple or a foreign base."""
        self.calls.setdefault(id(node), set()).add(None)
        positional, named, rest, others = arguments
        if isinstance(receiver, Instance):
            if name.startswith("register_") and positional:
                known = only_constant(positional[0])
                self.set_attribute(frozenset({receiver}), str(known.value) if known else "?", UNKNOWN)
            if name == "_replace":
                self.records.setdefault(id(node), set()).add(receiver.of)
                for key, value in named.items():
                    self.set_attribute(frozenset({receiver}), key, value)
                return frozenset({receiver})
            if name in ("_asdict", "_fields"):
                receiver.of.structural = True
                return UNKNOWN
            self.lose_arguments(arguments)
            return frozenset({receiver})
        if isinstance(receiver, Box):
            return self.box_call(receiver, name, arguments, node)
        if isinstance(receiver, Constant) and isinstance(receiver.value, str) and name in STRING_METHODS:
            constants = [only_constant(value) for value in positional]
            exact = not named and rest is None and others is None
            if exact and all(c is not None and isinstance(c.value, str) for c in constants):
                try:
                    return constant(getattr(receiver.value, name)(*[c.value for c in constants if c is not None]))
                except (TypeError, LookupError, UnicodeError):  # the program raises the same one, at its time
                    return UNKNOWN
        self.lose_arguments(arguments)
        given = [*positional, *named.values(), rest or NOTHING, others or NOTHING]
        return result_of(*given) if isinstance(receiver, Constant) else UNKNOWN

    # -- kinds --------------------------------------------------------------------------------------------------------
    def class_list(self, node: ast.expr, scope: Any) -> list[Any]:
        """The classes of isinstance's second argument; None stands for one that is not known."""
        if isinstance(node, ast.Tuple):
            return [kind for item in node.elts for kind in self.class_list(item, scope)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return [*self.class_list(node.left, scope), *self.class_list(node.right, scope)]
        value = self.evaluate(node, scope)
        return list(value) if value and all(isinstance(a, ClassFacts | Foreign) for a in value) else [None]

    def is_instance(self, atom: Any, kinds: list[Any]) -> bool | None:
        """Whether an atom is an instance of one of the classes; None where that is not known."""
        outcomes: list[bool | None] = []
        for kind in kinds:
            if kind is None or atom is ANY or kind is ANY:
                outcomes.append(None)
            elif isinstance(kind, ClassFacts):
                if isinstance(atom, Instance):
                    outcomes.append(kind in atom.of.lineage())
                else:
                    outcomes.append(None if isinstance(atom, Foreign) and atom is not STRANGER else False)
            elif isinstance(atom, Constant):
                real = foreign_object(kind.path)
                outcomes.append(isinstance(atom.value, real) if isinstance(real, type) else None)
            elif isinstance(atom, Instance) and not atom.of.foreign_bases():
                real = foreign_object(kind.path)
                outcomes.append(None if not isinstance(real, type) or real is object else False)
            elif isinstance(atom, Box) and kind.path.removeprefix("builtins.") in ("str", "int", "float", "bool"):
                outcomes.append(False)
            else:
                outcomes.append(None)
        if True in outcomes:
            return True
        return None if None in outcomes else False
