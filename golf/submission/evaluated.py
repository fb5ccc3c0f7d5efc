"""Functions of constants are called when the program is exported, and what they return stands where the call was.

So that is settled which needs no tensors: plans of layers, groups of parameters, settings of formats. A call is made
if its arguments are known, and the function refers to nothing but definitions of the program that only compute, and a
few modules that do; its source runs in a module of its own. Invariant: the same call in the program would return an
equal value, made anew; where that is not sure, or the value is long, the call stays.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import MISSING, fields, is_dataclass
from types import ModuleType
from typing import Any

from golf.submission.interpret import Interpreter
from golf.submission.values import ClassFacts, FunctionFacts, Instance, Value, only_constant
from golf.submission.walk import walk

MODULES = {"dataclasses", "functools", "itertools", "math", "re", "typing", "collections.abc", "__future__"}
LEFT_OUT = {"open", "print", "input", "exec", "eval", "compile", "globals", "locals", "id", "hash", "set"}
LEFT_OUT |= {"frozenset", "__import__", "breakpoint", "setattr", "delattr", "memoryview", "super", "dir"}
MOST_CHARACTERS = 1000
NAME = "golf_exported_constants"


class Unknown(Exception):
    """Something is not known before the program runs."""


class Evaluation:
    """Calls of one program whose results are known."""

    def __init__(self, facts: Interpreter):
        self.facts = facts
        self.top: dict[str, list[ast.stmt]] = {}
        for node in facts.tree.body:
            for name in bound_at_top(node):
                self.top.setdefault(name, []).append(node)
        self.found: dict[str, ast.expr | None] = {}

    def result(self, node: ast.Call, bound: set[str]) -> ast.expr | None:
        """What a call returns, as an expression without calls of functions; None if that is not known.

        `bound`: names that mean something else at the place of the call than at the top level.
        """
        callee = self.facts.values.get(id(node.func), frozenset())
        function = next(iter(callee)) if len(callee) == 1 else None
        if not isinstance(function, FunctionFacts) or function.owner is not None or function.kind != "plain":
            return None
        if function.scope.parent is not self.facts.module or isinstance(node.func, ast.Lambda):
            return None
        if len(self.top.get(function.name, ())) != 1 or function.node.decorator_list or function.is_generator:
            return None
        try:
            call = self._call(node, function.name)
            if call not in self.found:
                self.found[call] = self._evaluated(call, function.name)
        except Unknown:
            return None
        found = self.found[call]
        if found is not None and not self.is_shorter(node, call, function, found):
            return None
        if found is None or bound & {n.id for n in walk(found) if isinstance(n, ast.Name)}:
            return None
        return ast.copy_location(ast.parse(ast.unparse(found), mode="eval").body, node)

    def is_shorter(self, node: ast.Call, call: str, function: FunctionFacts, found: ast.expr) -> bool:
        """Whether the program becomes shorter if all such calls are replaced, and what they need goes."""
        calls = sum((function, False) in targets for targets in self.facts.calls.values())
        records = [facts for facts in self.facts.classes.values() if f"{facts.name}(" in call]
        gone = [function.node, *(facts.node for facts in records)]
        each = len(ast.unparse(found)) - len(ast.unparse(node))
        return calls * each <= sum(len(ast.unparse(item)) for item in gone)

    def _call(self, node: ast.Call, name: str) -> str:
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise Unknown
        arguments = [self._argument(a) for a in node.args]
        arguments += [f"{k.arg}={self._argument(k.value)}" for k in node.keywords]
        return f"{name}({', '.join(arguments)})"

    def _argument(self, node: ast.expr) -> str:
        """A constant, a display of constants, or an object whose fields are constants."""
        match node:
            case ast.Dict():
                pairs = [
                    ("" if key is None else self._argument(key), value) for key, value in zip(node.keys, node.values)
                ]
                return "{" + ", ".join(f"{key}: {self._argument(value)}" for key, value in pairs) + "}"
            case ast.Tuple() | ast.List():
                brackets = "[]" if isinstance(node, ast.List) else "()"
                return brackets[0] + "".join(f"{self._argument(item)}, " for item in node.elts) + brackets[1]
            case _:
                return self._known(self.facts.values.get(id(node), frozenset()))

    def _known(self, value: Value) -> str:
        known = only_constant(value)
        if known is not None:
            return repr(known.value)
        atom = next(iter(value)) if len(value) == 1 else None
        if not isinstance(atom, Instance) or not self._is_constant(atom.of):
            raise Unknown
        given = [f"{name}={self._known(atom.of.attributes.get(name, frozenset()))}" for name, _ in atom.of.all_fields()]
        return f"{atom.of.name}({', '.join(given)})"

    def _is_constant(self, facts: ClassFacts) -> bool:
        """Whether a class is a record that nothing changes after it is made."""
        frozen = any("frozen=True" in ast.unparse(item) for item in facts.node.decorator_list)
        outer = facts.scope.parent is self.facts.module
        return facts.is_record and (frozen or facts.is_tuple) and outer and not facts.bases and not facts.foreign

    def _evaluated(self, call: str, name: str) -> ast.expr | None:
        names = {n.id for n in walk(ast.parse(call)) if isinstance(n, ast.Name)}
        module = ModuleType(NAME)
        sys.modules[NAME] = module  # dataclasses look there
        try:
            body = [ast.ImportFrom("__future__", [ast.alias("annotations")], 0), *self._needed(names)]
            source = ast.unparse(ast.fix_missing_locations(ast.Module(body, [])))
            exec(compile(source, NAME, "exec"), module.__dict__)
            text = written(eval(call, module.__dict__), set(self.top))
        except Exception:  # whatever it raises: the program does so when it runs
            return None
        finally:
            del sys.modules[NAME]
        return ast.parse(text, mode="eval").body if len(text) <= MOST_CHARACTERS else None

    def _needed(self, names: set[str]) -> list[ast.stmt]:
        """The definitions that some names need, in the order of the program."""
        queue, seen = list(names), set[str]()
        while queue:
            name = queue.pop()
            if name in seen:
                continue
            seen.add(name)
            nodes = self.top.get(name, [])
            if not nodes and (name in LEFT_OUT or not hasattr(builtins, name)):
                raise Unknown
            for node in nodes:
                if not only_defines(node) or not (is_constant(node) or self.only_read(name)):
                    raise Unknown
                queue += free_names(node)
        return [n for n in self.facts.tree.body if seen & set(bound_at_top(n)) and not is_future(n)]

    def only_read(self, name: str) -> bool:
        """Whether nothing in the program can change what a name at the top level holds."""
        allowed: set[int] = set()
        for node in walk(self.facts.tree):
            match node:
                case ast.Subscript(value=ast.Name() as held, ctx=ast.Load()):
                    allowed.add(id(held))
                case ast.Attribute(value=ast.Name() as held, attr="get" | "items" | "keys" | "values"):
                    allowed.add(id(held))
                case ast.Compare(comparators=[ast.Name() as held], ops=[ast.In() | ast.NotIn()]):
                    allowed.add(id(held))
                case ast.For(iter=ast.Name() as held) | ast.comprehension(iter=ast.Name() as held):
                    allowed.add(id(held))
                case _:
                    pass
        uses = [n for n in walk(self.facts.tree) if isinstance(n, ast.Name) and n.id == name]
        return sum(id(use) not in allowed for use in uses) == 1  # the assignment


def is_constant(node: ast.stmt) -> bool:
    """Whether a definition is one of a function or class, an import, or gives a name a value that cannot change."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return True
    kinds = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.USub, ast.BinOp, ast.operator, ast.expr_context)
    return all(isinstance(item, kinds) for item in walk(node.value))


def is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def bound_at_top(node: ast.stmt) -> list[str]:
    """Names that a statement at the top level gives a meaning."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [n.id for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def only_defines(node: ast.stmt) -> bool:
    """Whether a definition may be run beforehand: nothing in it reaches outside of the program."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        return set(modules) <= MODULES
    strange = (ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom, ast.Set, ast.SetComp, ast.With, ast.Yield)
    if any(isinstance(item, strange) for item in walk(node)):
        return False
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        kinds = (ast.Constant, ast.Tuple, ast.Dict, ast.List, ast.Name, ast.UnaryOp, ast.USub, ast.BinOp)
        if not all(isinstance(item, (*kinds, ast.operator, ast.expr_context)) for item in walk(node.value)):
            return False
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)


def free_names(node: ast.stmt) -> set[str]:
    """Names that a definition takes from elsewhere; what only its types name does not count."""
    types = [item.annotation for item in walk(node) if isinstance(item, ast.arg | ast.AnnAssign) and item.annotation]
    types += [item.returns for item in walk(node) if isinstance(item, ast.FunctionDef) and item.returns]
    typed = {id(n) for item in types for n in walk(item)}
    own = {n.arg for n in walk(node) if isinstance(n, ast.arg)}
    own |= {n.id for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in walk(node) if isinstance(n, ast.FunctionDef | ast.ExceptHandler) and n.name}
    used = {n.id for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in typed}
    return used - own


def written(value: Any, known: set[str]) -> str:
    """A value as an expression that makes it anew.

    Raises:
        Unknown: there is none.
    """
    kind: Any = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return repr(value)
    if kind is float and value == value and abs(value) != float("inf"):
        return repr(value)
    if kind is list:
        return f"[{', '.join(written(item, known) for item in value)}]"
    if kind is tuple:
        return f"({', '.join(written(item, known) for item in value)}{',' * (len(value) == 1)})"
    if kind is dict:
        return "{" + ", ".join(f"{written(k, known)}: {written(v, known)}" for k, v in value.items()) + "}"
    names = getattr(value, "_fields", None)  # of a NamedTuple
    if isinstance(value, tuple) and names is not None:
        given = {name: written(item, known) for name, item in zip(names, value)}
        return made(kind, given, getattr(value, "_field_defaults", {}), known)
    if is_dataclass(value) and all(part.init for part in fields(value)):
        given = {part.name: written(getattr(value, part.name), known) for part in fields(value)}
        defaults = {part.name: part.default for part in fields(value) if part.default is not MISSING}
        return made(kind, given, defaults, known)
    raise Unknown


def made(kind: type, given: dict[str, str], defaults: dict[str, Any], known: set[str]) -> str:
    """The call of a record's class, without what is so by default; fields that have no default by their place."""
    if kind.__name__ not in known or kind.__module__ != NAME:
        raise Unknown
    arguments: list[str] = []
    for name, text in given.items():
        if name in defaults and text == repr(defaults[name]):
            continue
        arguments.append(
            text if len(arguments) == list(given).index(name) and name not in defaults else f"{name}={text}"
        )
    return f"{kind.__name__}({', '.join(arguments)})"
