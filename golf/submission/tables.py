"""The specialiser's tables: scopes, functions and classes of a program, its containers, and how those are read."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

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
    Scope,
    Value,
    constant,
    foreign_has,
    widened,
)

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
RECORD_BASES = {"NamedTuple"}
READING_METHODS = {"items", "keys", "values", "copy", "index", "count"}


class Tables:
    """Everything about a program that stays as it is, and what was found out so far."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.module = Scope()
        self.scopes: dict[int, Scope] = {}
        self.outer_scopes: dict[int, Scope] = {}
        self.functions: dict[int, FunctionFacts] = {}
        self.classes: dict[int, ClassFacts] = {}
        self.context_managers: set[Any] = set()
        self.values: dict[int, Value] = {}
        self.seen: dict[int, ast.AST] = {}
        self.visited: set[int] = set()
        self.calls: dict[int, set[Any]] = {}  # call -> (function, whether bound); None = something else, too
        self.records: dict[int, set[ClassFacts]] = {}  # call -> dataclasses and NamedTuples it makes
        self.spread: set[FunctionFacts] = set()  # functions that are called with *args or **kwargs
        self.boxes: dict[Any, Box] = {}
        self.wild: dict[str, Value] = {}  # attributes set on something unknown
        self.refined: dict[tuple[int, str], tuple[Any, ...]] = {}
        self.current: list[FunctionFacts] = []
        self.forced: set[int] = set()
        self.readers: dict[Any, dict[Any, None]] = {}  # what was read -> the functions whose bodies read it
        self.dirty: dict[Any, None] = {}  # functions to run again; None = the statements at the top level
        self._method_of: dict[int, FunctionFacts] = {}
        self._outer_names: dict[int, set[str]] = {}  # scope -> names declared nonlocal or global
        self._read(tree.body, self.module, None)
        self._link()

    def evaluate(self, node: ast.expr, scope: Any) -> Value:
        raise NotImplementedError

    def apply(
        self, function: FunctionFacts, receiver: Any, node: ast.AST, arguments: Any = ([], {}, None, None)
    ) -> Value:
        raise NotImplementedError

    def attribute(self, value: Value, name: str, node: ast.AST) -> Value:
        raise NotImplementedError

    def set_attribute(self, receivers: Value, name: str, value: Value) -> None:
        raise NotImplementedError

    def give(self, function: FunctionFacts, name: str, value: Value) -> None:
        raise NotImplementedError

    def lose(self, value: Value) -> None:
        raise NotImplementedError

    def lose_members(self, facts: ClassFacts) -> None:
        raise NotImplementedError

    # -- who has to run again -----------------------------------------------------------------------------------------
    def reading(self, key: Any) -> None:
        """The function that is being run depends on this."""
        self.readers.setdefault(key, {})[self.current[-1] if self.current else None] = None

    def written(self, key: Any) -> None:
        """Whoever read this has to run again."""
        self.dirty.update(self.readers.get(key, {}))

    # -- reading the program ------------------------------------------------------------------------------------------
    def _read(self, nodes: Iterable[ast.AST], scope: Scope, owner: ClassFacts | None) -> None:
        """Enter scopes, functions and classes below these nodes."""
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                self._read_function(node, scope, owner)
            elif isinstance(node, ast.ClassDef):
                self._name(scope, node.name)
                inner = Scope(scope, is_class=True)
                facts = ClassFacts(node, node.name, inner)
                self.classes[id(node)] = facts
                self._read([*node.bases, *node.keywords, *node.decorator_list], scope, None)
                self._read(node.body, inner, facts)
            elif isinstance(node, COMPREHENSIONS):
                inner = Scope(scope)
                self.scopes[id(node)], self.outer_scopes[id(node)] = inner, scope
                first = node.generators[0]
                self._read([first.iter], scope, None)
                parts: list[ast.AST] = [g.iter for g in node.generators[1:]]
                parts += [part for g in node.generators for part in (g.target, *g.ifs)]
                parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                self._read(parts, inner, None)
            elif isinstance(node, ast.NamedExpr):
                outer = scope
                while id(outer) in {id(s) for s in self.scopes.values()} and outer.parent is not None:
                    outer = outer.parent
                self._name(outer, node.target.id)
                self._read([node.value], scope, None)
            else:
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self._name(scope, node.id)
                elif isinstance(node, ast.ExceptHandler) and node.name:
                    self._name(scope, node.name)
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        self._name(scope, alias.asname or alias.name.partition(".")[0])
                elif isinstance(node, ast.Global | ast.Nonlocal):
                    for name in node.names:
                        scope.local.discard(name)
                        self._outer_names.setdefault(id(scope), set()).add(name)
                elif isinstance(node, ast.AnnAssign):
                    self._read([node.target, *([] if node.value is None else [node.value])], scope, owner)
                    continue
                if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                    self._name(scope, node.target.id)
                self._read(ast.iter_child_nodes(node), scope, owner if isinstance(node, ast.If) else None)

    def _name(self, scope: Scope, name: str) -> None:
        count = scope.assignments.get(name, 0)
        scope.assignments[name] = count + 1
        if name not in self._outer_names.get(id(scope), ()):
            scope.local.add(name)
        else:
            owner = scope.owner(name)
            if owner is not None:
                owner.assignments[name] = owner.assignments.get(name, 0) + 2

    def _read_function(self, node: Any, scope: Scope, owner: ClassFacts | None) -> None:
        inner = Scope(scope)
        name = getattr(node, "name", "lambda")
        function = FunctionFacts(node, name, inner, owner)
        self.functions[id(node)] = function
        if isinstance(node, ast.FunctionDef):
            self._name(scope, node.name)
            function.kind = self._kind(node)
            body: list[ast.AST] = list(node.body)
            function.is_generator = any(isinstance(n, ast.Yield | ast.YieldFrom) for n in own_nodes(node))
        else:
            body = [node.body]
        if owner is not None:
            owner.methods[name] = function
        if owner is not None:
            self._method_of[id(inner)] = function
        arguments = node.args
        for parameter in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            self._name(inner, parameter.arg)
        for star in (arguments.vararg, arguments.kwarg):
            if star is not None:
                self._name(inner, star.arg)
        self._read([*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)], scope, None)
        self._read(getattr(node, "decorator_list", []), scope, None)
        self._read(body, inner, None)

    def _kind(self, node: ast.FunctionDef) -> str:
        names = [ast.unparse(decorator) for decorator in node.decorator_list]
        for name in names:
            if name in ("property", "classmethod", "staticmethod"):
                return name
            if name == "contextmanager":
                self.context_managers.add(node)
            elif name.split("(")[0] not in ("torch.no_grad", "torch.inference_mode", "torch.enable_grad"):
                return "foreign"
        return "plain"

    def _link(self) -> None:
        """Bases of classes, and which of them are records."""
        by_name = {facts.name: facts for facts in self.classes.values()}
        imports = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                imports.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
            elif isinstance(node, ast.Import):
                imports.update({a.asname or a.name: a.name for a in node.names})
        for facts in self.classes.values():
            for base in facts.node.bases:
                text = ast.unparse(base)
                head, _, tail = text.partition(".")
                if text in by_name:
                    facts.bases.append(by_name[text])
                elif text == "NamedTuple":
                    facts.is_record = facts.is_tuple = True
                elif text not in ("Protocol", "object"):
                    facts.foreign.append((imports.get(head, f"builtins.{head}") + "." + tail).rstrip("."))
            if any(ast.unparse(d).split("(")[0] == "dataclass" for d in facts.node.decorator_list):
                facts.is_record = True
            for item in facts.node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    if "ClassVar" not in ast.unparse(item.annotation):
                        facts.fields.append((item.target.id, item.value))
        for facts in self.classes.values():
            facts.settle()
            facts.is_record |= any(base.is_record for base in facts.lineage())

    def method_around(self, scope: Any) -> FunctionFacts | None:
        """The method in whose body a scope is."""
        while scope is not None and id(scope) not in self._method_of:
            scope = scope.parent
        return None if scope is None else self._method_of[id(scope)]

    def overrides(self, facts: ClassFacts, name: str) -> bool:
        """Whether a method may be called by a foreign base of its class (`forward` is, but by calls that are seen)."""
        if facts.is_module() and name == "forward":
            return False
        return foreign_has(facts.foreign_bases(), name)

    def parameter_names(self, function: FunctionFacts) -> list[str]:
        arguments = function.node.args
        return [p.arg for p in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]

    # -- containers ---------------------------------------------------------------------------------------------------
    def box(self, kind: str, site: Any) -> Box:
        """The container that is made at a place of the program."""
        key = (id(site), kind) if not isinstance(site, tuple) else (id(site[0]), site[1], kind)
        if key not in self.boxes:
            self.boxes[key] = Box(kind, site)
        return self.boxes[key]

    def put(self, box: Box, key: Any, value: Value) -> None:
        """Put something at a known key, or somewhere (None)."""
        if key is None or (not box.exact and not isinstance(key, str)):
            grown = widened(box.others | value)
            if grown != box.others:
                box.others = grown
                self.written(id(box))
        else:
            grown = widened(box.items.get(key, NOTHING) | value)
            if key not in box.items or grown != box.items[key]:
                box.items[key] = grown
                self.written(id(box))
        if key is None and box.kind != "partial":
            self.inexact(box)

    def inexact(self, box: Box) -> None:
        if box.exact:
            box.exact = False
            self.written(id(box))

    def update(self, box: Box, value: Value) -> None:
        """Everything of another container goes into this one."""
        for atom in value:
            if isinstance(atom, Box) and atom.kind == "dict":
                atom.read_whole = True
                for key, item in atom.items.items():
                    self.put(box, key, item)
                if not atom.exact:
                    self.put(box, None, atom.others)
                    self.inexact(box)
            else:
                self.put(box, None, self.iterate(frozenset({atom}), None))
                self.inexact(box)

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
            elif isinstance(atom, Constant) and isinstance(atom.value, str | bytes):
                found |= UNKNOWN
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
                found |= UNKNOWN
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
        if box.kind == "partial":
            if name == "keywords":
                held = self.box("dict", (box.node, "keywords"))
                for key, value in box.items.items():
                    if isinstance(key, str):
                        self.put(held, key, value)
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
        if name in ("get", "setdefault", "pop"):
            default = positional[1] if len(positional) > 1 else constant(None) if name == "get" else NOTHING
            if name == "setdefault":
                self.put(box, None, default)
            if name == "pop" and not positional:
                box.read_whole = True
                return box.elements()
            found = self.at(box, first) if box.kind == "dict" else box.elements()
            keys = {atom.value for atom in first if isinstance(atom, Constant)}
            sure = box.exact and all(isinstance(a, Constant) for a in first) and keys <= set(box.items)
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
                outcomes |= {text in atom.value for text in texts}
                continue
            self.reading(id(atom))
            if not isinstance(atom, Box) or atom.lost or not atom.exact:
                return {True, False}
            held: set[Any] = set()
            if atom.kind == "dict":
                held = {(type(key).__name__, key) for key in atom.items}
            else:
                for value in atom.items.values():
                    if len(value) != 1 or not all(isinstance(a, Constant) for a in value):
                        return {True, False}
                    held |= {(a.kind, a.value) for a in value}
            for a in left:
                if not isinstance(a, Constant):
                    if isinstance(a, Foreign) or not held:
                        return {True, False}
                    outcomes.add(False)
                else:
                    outcomes.add((a.kind, a.value) in held or any(a.value == key for _, key in held))
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
            found |= UNKNOWN if method is None else self.apply(method, atom, node)
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
            elif isinstance(atom, Box) and atom.kind == "partial":
                outcomes.add(True)
            else:
                outcomes |= {True, False}
        return outcomes


def own_nodes(function: ast.AST) -> Iterable[ast.AST]:
    """Nodes of a function without those of functions inside it."""
    queue = list(ast.iter_child_nodes(function))
    while queue:
        node = queue.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            queue.extend(ast.iter_child_nodes(node))
