"""Containers of the abstract interpretation: what is put into them, and what reading, iterating and testing gives."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from golf.submission.program_tables import ProgramTables
from golf.submission.values import (
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
    joined,
    widened,
)

REMOVING = {"pop", "popitem", "popleft", "clear", "remove", "discard", "sort", "reverse", "rotate", "setdefault"}


class Tables(ProgramTables):
    """Lists, tuples, dictionaries, sets and partials."""

    # -- containers ---------------------------------------------------------------------------------------------------
    def box(self, kind: str, site: Any) -> Box:
        """The container that is made at a place of the program."""
        key = (id(site), kind) if not isinstance(site, tuple) else (id(site[0]), site[1], kind)
        if key not in self.boxes:
            self.boxes[key] = Box(kind, site)
        return self.boxes[key]

    def put(self, box: Box, key: Any, value: Value, made: bool = False) -> None:
        """Put something at a known key, or somewhere (None). `made`: that is how the container is made."""
        if box.kind == "dict" and not made and key is not None and key not in box.items:
            self.doubt(box, key)
        if key is None or (not box.exact and not isinstance(key, str)):
            grown = joined(box.others, value)
            if grown != box.others:
                box.others = grown
                self.written(id(box))
        else:
            grown = joined(box.items.get(key, NOTHING), value)
            if key not in box.items or grown != box.items[key]:
                box.items[key] = grown
                self.written(id(box))
        if key is None and box.kind != "partial":
            self.inexact(box)

    def doubt(self, box: Box, key: Any) -> None:
        """A dictionary does not have this key at all times."""
        if key not in box.unsure:
            box.unsure.add(key)
            self.written(id(box))

    def inexact(self, box: Box) -> None:
        if box.exact:
            box.exact = False
            self.written(id(box))

    def sure_keys(self, value: Value) -> set[Any]:
        """Keys that a dictionary has, whichever of these it is."""
        found: set[Any] | None = None
        for atom in value:
            self.reading(id(atom))
            sure = set(atom.items) - atom.unsure if isinstance(atom, Box) and atom.exact else set[Any]()
            found = sure if found is None else found & sure
        return found or set()

    def update(self, box: Box, value: Value, made: bool = False, there: Iterable[Any] = ()) -> None:
        """Everything of another container goes into this one, which has the keys in `there` in any case."""
        sure = self.sure_keys(value) | set(there) if made else set[Any]()
        for atom in value:
            if isinstance(atom, Box) and atom.kind == "dict":
                atom.read_whole = True
                for key, item in atom.items.items():
                    self.put(box, key, item, made)
                    if made and key not in sure:
                        self.doubt(box, key)
                if not atom.exact:
                    self.put(box, None, atom.others)
                    self.inexact(box)
            else:
                for pair in self.iterate(frozenset({atom}), None):
                    self.put(box, None, self.second_of(pair))
                self.inexact(box)

    def second_of(self, pair: Any) -> Value:
        """The value of a key and its value, where they are known to be that."""
        if not isinstance(pair, Box):
            return frozenset({pair})
        self.reading(id(pair))
        pair.read_whole = True
        return pair.items[1] if pair.exact and set(pair.items) == {0, 1} else pair.elements()

    def known_items(self, value: Value) -> list[Value] | None:
        """The items of a list, tuple or NamedTuple whose length and order are known."""
        if len(value) != 1:
            return None
        (atom,) = value
        if isinstance(atom, Instance) and atom.of.is_tuple:
            atom.of.structural = True
            return [self.held(atom.of.attributes, name) for name, _ in atom.of.all_fields()]
        self.reading(id(atom))
        if not isinstance(atom, Box) or atom.kind not in ("list", "tuple") or not atom.exact or atom.lost:
            return None
        atom.read_whole = True
        return (
            [atom.items[index] for index in range(len(atom.items))]
            if set(atom.items) == set(range(len(atom.items)))
            else None
        )

    def read_containers(self, value: Value) -> None:
        """Somebody looks at containers and at all that is in them: shows them, or compares them."""
        queue, seen = [atom for atom in value if isinstance(atom, Box)], set[int]()
        while queue:
            box = queue.pop()
            if id(box) in seen:
                continue
            seen.add(id(box))
            self.reading(id(box))
            box.read_whole = True
            for atom in box.elements():
                if isinstance(atom, Box):
                    queue.append(atom)
                elif isinstance(atom, Instance):
                    atom.of.structural = True

    def iterate(self, value: Value, node: Any) -> Value:
        """What iterating over a value gives."""
        found = NOTHING
        for atom in value:
            if isinstance(atom, Box):
                self.reading(id(atom))
                atom.read_whole = True
                if atom.kind == "dict":
                    for key in atom.items:
                        found |= constant(key)
                    found |= NOTHING if atom.exact else UNKNOWN
                else:
                    found |= atom.elements()
            elif isinstance(atom, Instance):
                atom.of.structural = True
                if atom.of.is_tuple:
                    for name, _ in atom.of.all_fields():
                        found |= self.held(atom.of.attributes, name)
                method, getter = atom.of.method("__iter__"), atom.of.method("__getitem__")
                if method is not None:
                    held = self.apply(method, atom, method.node)
                    found |= self.iterate(frozenset(a for a in held if isinstance(a, Box)), None) | UNKNOWN
                elif getter is not None:
                    found |= self.apply(getter, atom, getter.node) | UNKNOWN
                elif atom.of.foreign_bases():
                    found |= UNKNOWN
            elif atom is STRANGER or (isinstance(atom, Constant) and isinstance(atom.value, str | bytes)):
                found |= PLAIN
            elif isinstance(atom, Constant):
                continue
            else:
                found |= UNKNOWN
        return widened(found)

    def subscript(self, value: Value, key: Value, node: Any) -> Value:
        """What `value[key]` can be."""
        found = NOTHING
        for atom in value:
            if isinstance(atom, Box) and isinstance(node, ast.Slice):
                self.reading(id(atom))
                atom.read_whole = True
                found |= frozenset({atom}) if not atom.exact else self._sliced(atom, node)
            elif isinstance(atom, Box):
                found |= self.at(atom, key)
            elif isinstance(atom, Instance):
                atom.of.structural = True
                method = atom.of.method("__getitem__")
                found |= self.apply(method, atom, method.node) if method is not None else UNKNOWN
                if atom.of.is_tuple:
                    found |= self.iterate(frozenset({atom}), None)
            elif isinstance(atom, Constant) and atom.value is None:
                continue
            else:
                found |= PLAIN if atom is STRANGER or isinstance(atom, Constant) else UNKNOWN
        return found

    def _sliced(self, atom: Box, node: ast.Slice) -> Value:
        part = self.box(atom.kind, node)
        self.inexact(part)
        self.put(part, None, atom.elements())
        return frozenset({part})

    def at(self, box: Box, key: Value) -> Value:
        """What a container has at a key."""
        self.reading(id(box))
        found = NOTHING
        for atom in key:
            if not isinstance(atom, Constant):
                box.read_whole = True
                found |= box.elements()
            else:
                box.read_keys.add(atom.value)
                index = atom.value
                if box.kind in ("list", "tuple") and isinstance(index, int) and index < 0:
                    box.read_whole = True
                    index = index + len(box.items) if box.exact else None
                found |= box.items.get(index, NOTHING) | (NOTHING if box.exact else box.others)
                if box.kind != "dict" and not box.exact:
                    found |= box.elements()
        return found

    def box_member(self, box: Box, name: str) -> Value:
        self.reading(id(box))
        if self.held(self.wild, name):
            return frozenset({Bound(name, box)}) | self.wild[name] | UNKNOWN
        if box.kind == "partial":
            if name == "keywords":
                held = self.box("dict", (box.node, "keywords"))
                for key, value in box.items.items():
                    if isinstance(key, str):
                        self.put(held, key, value, made=True)
                return frozenset({held})
            return box.function if name == "func" else UNKNOWN
        return frozenset({Bound(name, box)})

    def box_call(self, box: Box, name: str, arguments: Any, node: ast.AST) -> Value:
        """A method of a list, tuple, dict or set."""
        positional, named, rest, others = arguments
        first = positional[0] if positional else NOTHING
        self.reading(id(box))
        if name in ("append", "add", "insert", "appendleft"):
            self.put(box, None, positional[-1] if positional else NOTHING)
            return constant(None)
        if name in ("extend",):
            self.put(box, None, self.iterate(first, None))
            return constant(None)
        if name == "update":
            for value in positional:
                self.update(box, value)
            for key, value in named.items():
                self.put(box, key, value)
            if rest or others:
                self.put(box, None, UNKNOWN)
            return constant(None)
        if name in REMOVING:
            self.inexact(box)
        if name in ("get", "setdefault", "pop"):
            default = positional[1] if len(positional) > 1 else constant(None) if name == "get" else NOTHING
            if name == "setdefault":
                self.put(box, None, default)
            if name == "pop" and not positional:
                box.read_whole = True
                return box.elements()
            found = self.at(box, first) if box.kind == "dict" else box.elements()
            keys = {atom.value for atom in first if isinstance(atom, Constant)}
            sure = box.exact and all(isinstance(a, Constant) for a in first) and keys <= set(box.items) - box.unsure
            return found if sure and name != "setdefault" else found | default
        if name in ("items", "values", "keys", "copy"):
            return self._views(box, name, node)
        box.read_whole = True
        for value in [*positional, *named.values(), rest or NOTHING, others or NOTHING]:
            self.lose(value)
        return box.elements() | UNKNOWN

    def _views(self, box: Box, name: str, node: ast.AST) -> Value:
        box.read_whole = True
        if name == "copy":
            return frozenset({box})
        found = self.box("list", (node, name))
        self.inexact(found)
        keys = frozenset(atom for key in box.items for atom in constant(key)) | (NOTHING if box.exact else UNKNOWN)
        if name == "values":
            self.put(found, None, box.elements())
        elif name == "keys":
            self.put(found, None, widened(keys))
        elif keys and (box.elements() or box.items):
            pair = self.box("tuple", (node, "pair"))
            self.put(pair, 0, widened(keys))
            self.put(pair, 1, box.elements())
            self.put(found, None, frozenset({pair}))
        return frozenset({found})

    def membership(self, left: Value, right: Value, wanted: bool) -> set[bool]:
        """`left in right`."""
        outcomes: set[bool] = set()
        for atom in right:
            if isinstance(atom, Constant) and isinstance(atom.value, str):
                texts = [a.value if isinstance(a, Constant) else None for a in left]
                if any(not isinstance(text, str) for text in texts):
                    return {True, False}
                outcomes |= {str(text) in atom.value for text in texts}
                continue
            self.reading(id(atom))
            if not isinstance(atom, Box) or atom.lost or not atom.exact:
                return {True, False}
            held: set[Any] = set()
            if not atom.items and not atom.others:
                outcomes.add(False)
                continue
            if atom.kind == "dict":
                held = {(type(key).__name__, key) for key in atom.items}
            else:
                for value in atom.items.values():
                    if len(value) != 1 or not all(isinstance(a, Constant) for a in value):
                        return {True, False}
                    held |= {(a.kind, a.value) for a in value}
            for a in left:
                if isinstance(a, Constant):
                    atom.read_keys.add(a.value)
                else:
                    atom.read_whole = True
                if not isinstance(a, Constant):
                    if isinstance(a, Foreign) or not held:
                        return {True, False}
                    outcomes.add(False)
                else:
                    outcomes.add((a.kind, a.value) in held or any(a.value == key for _, key in held))
                    outcomes |= {False} if a.value in atom.unsure else set()
        return {outcome == wanted for outcome in outcomes}

    def held(self, table: dict[str, Value], name: str) -> Value:
        """What a scope or an object has under a name."""
        self.reading((id(table), name))
        return table.get(name, NOTHING)

    def enter(self, value: Value, node: ast.AST) -> Value:
        """What `with value as …` binds."""
        found = NOTHING
        for atom in value:
            method = atom.of.method("__enter__") if isinstance(atom, Instance) else None
            nothing = PLAIN if atom is STRANGER else UNKNOWN
            found |= nothing if method is None else self.apply(method, atom, node)
        return found

    # -- truth --------------------------------------------------------------------------------------------------------
    def truth(self, value: Value) -> set[bool]:
        """What `bool(value)` can be."""
        outcomes: set[bool] = set()
        for atom in value:
            if isinstance(atom, Constant):
                outcomes.add(bool(atom.value))
            elif isinstance(atom, FunctionFacts | ClassFacts | Bound):
                outcomes.add(True)
            elif isinstance(atom, Instance):
                odd = atom.of.method("__len__") or atom.of.method("__bool__") or atom.of.is_tuple
                known = not odd and (atom.of.is_module() or not atom.of.foreign_bases())
                outcomes |= {True} if known else {True, False}
            elif isinstance(atom, Box) and atom.kind in ("tuple", "list", "dict") and atom.exact and not atom.lost:
                self.reading(id(atom))
                outcomes.add(bool(atom.items))
                outcomes |= {False} if set(atom.items) == atom.unsure else set()
            elif isinstance(atom, Box) and atom.kind == "partial":
                outcomes.add(True)
            elif isinstance(atom, Box) and not atom.lost and not atom.items and not atom.others:
                self.reading(id(atom))
                outcomes.add(False)
            else:
                outcomes |= {True, False}
        return outcomes
