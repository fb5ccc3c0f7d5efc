"""The specialiser's tables: scopes, functions and classes of a program, its containers, and how those are read."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from golf.submission.names import COMPREHENSIONS
from golf.submission.values import (
    Box,
    ClassFacts,
    FunctionFacts,
    Scope,
    Value,
    foreign_has,
)
from golf.submission.walk import children, walk

ASKED_OPTIMIZERS = {"step", "state_dict", "load_state_dict", "zero_grad"}  # what torch's Optimizer never calls itself
PICKLED = {"__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__deepcopy__", "__copy__", "__getnewargs__"}
PICKLING_MODULES = {"pickle", "copy", "multiprocessing", "concurrent", "shelve", "joblib"}
PICKLING_CALLS = {"save", "DataLoader", "multiprocessing", "all_gather_object", "gather_object", "spawn"}
PICKLING_CALLS |= {"broadcast_object_list", "scatter_object_list", "rpc", "package"}
FORWARD_HOOKS = {"register_forward_hook", "register_forward_pre_hook"}


class ProgramTables:
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
        self.answering: set[FunctionFacts] = set()  # methods that somebody unknown calls
        self.boxes: dict[Any, Box] = {}
        self.having: dict[str, list[ClassFacts]] = {}  # attribute -> classes that may have it
        self.wild: dict[str, Value] = {}  # attributes set on something unknown
        self.refined: dict[tuple[int, str], tuple[Any, ...]] = {}
        self.current: list[FunctionFacts] = []
        self.forced: set[int] = set()
        self.readers: dict[Any, dict[Any, None]] = {}  # what was read -> the functions whose bodies read it
        self.dirty: dict[Any, None] = {}  # functions to run again; None = the statements at the top level
        self._method_of: dict[int, FunctionFacts] = {}
        self._outer_names: dict[int, set[str]] = {}  # scope -> names declared nonlocal or global
        attributes = {node.attr for node in walk(tree) if isinstance(node, ast.Attribute)}
        self.pickles = bool(PICKLING_MODULES & imported_modules(tree)) or bool(attributes & PICKLING_CALLS)
        self.deleted = {n.attr for n in walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Del)}
        self.hooked = bool(attributes & FORWARD_HOOKS)  # hooks see a module's arguments and may replace its result
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

    def lose_arguments(self, arguments: Any) -> None:
        raise NotImplementedError

    def returned(self, function: FunctionFacts, value: Value) -> None:
        raise NotImplementedError

    def invoke(self, atom: Any, arguments: Any, node: ast.AST, scope: Any = None) -> Value:
        raise NotImplementedError

    def bind(self, scope: Scope, name: str, value: Value) -> None:
        raise NotImplementedError

    def variable(self, name: str, scope: Scope) -> Value:
        raise NotImplementedError

    def lose_members(self, facts: ClassFacts) -> None:
        raise NotImplementedError

    def always_has(self, facts: ClassFacts, name: str) -> bool:
        raise NotImplementedError

    def has_method(self, atom: Any, name: str) -> bool:
        raise NotImplementedError

    # -- who has to run again -----------------------------------------------------------------------------------------
    def reading(self, key: Any) -> None:
        """The function that is being run depends on this."""
        readers = self.readers.get(key)
        if readers is None:
            readers = self.readers[key] = {}
        readers[self.current[-1] if self.current else None] = None

    def written(self, key: Any) -> None:
        """Whoever read this has to run again."""
        if key in self.readers:
            self.dirty.update(self.readers[key])

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
                inner = Scope(scope, is_comprehension=True)
                self.scopes[id(node)], self.outer_scopes[id(node)] = inner, scope
                first = node.generators[0]
                self._read([first.iter], scope, None)
                parts: list[ast.AST] = [g.iter for g in node.generators[1:]]
                parts += [part for g in node.generators for part in (g.target, *g.ifs)]
                parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                self._read(parts, inner, None)
            elif isinstance(node, ast.NamedExpr):
                outer = scope
                while outer.is_comprehension and outer.parent is not None:
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
                self._read(children(node), scope, owner if isinstance(node, ast.If) else None)

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
                is_field = isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation)
                if isinstance(item, ast.AnnAssign) and is_field and isinstance(item.target, ast.Name):
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
        if name in ASKED_OPTIMIZERS and "torch.optim.Optimizer" in facts.foreign_bases():
            return False
        return foreign_has(facts.foreign_bases(), name)

    def parameter_names(self, function: FunctionFacts) -> list[str]:
        arguments = function.node.args
        return [p.arg for p in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]


def imported_modules(tree: ast.AST) -> set[str]:
    """The packages that a program imports something of."""
    found: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


def own_nodes(function: ast.AST) -> Iterable[ast.AST]:
    """Nodes of a function without those of functions inside it."""
    queue = list(children(function))
    while queue:
        node = queue.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            queue.extend(children(node))
