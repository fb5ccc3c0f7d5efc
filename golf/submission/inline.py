"""Functions that are called in one place are written there, and short ones everywhere.

Two shapes: a function that is one expression replaces a call anywhere; the statements of a longer one go before the
statement that its call is the first thing of. Invariant: an edit is made only where all calls and no other use of the
function are known, where no name means something else at the new place, and where the order of effects stays.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from golf.submission.checks import without_docstring
from golf.submission.interpret import Interpreter
from golf.submission.names import COMPREHENSIONS, bound_in, identifiers
from golf.submission.pure import is_pure
from golf.submission.values import Bound, FunctionFacts
from golf.submission.walk import children, copied, walk

SCOPES = (ast.FunctionDef, ast.Lambda)
SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.For, ast.If)
LOOPS = (ast.For, ast.While)
MOST_REPEATED = 60  # characters of an expression that may be written more than once


@dataclass
class Site:
    """A call (or the reading of a property), and where it is."""

    node: Any
    parent: ast.AST
    caller: ast.FunctionDef | None
    statement: ast.stmt
    block: list[ast.stmt]
    in_loop: bool
    delayed: bool  # inside of a lambda or a comprehension


@dataclass
class Places:
    """Every node of a program by its id, with what is around it."""

    sites: dict[int, Site] = field(default_factory=dict)
    names: dict[int, set[str]] = field(default_factory=dict)  # function -> identifiers in it and around it
    bound: dict[int, set[str]] = field(default_factory=dict)  # function -> names that are not the module's there
    rebound: set[str] = field(default_factory=set)  # names that functions assign to outside of themselves

    def read(self, node: ast.AST, site: Site | None, outer: set[str]) -> None:
        for name, value in ast.iter_fields(node):
            items = value if isinstance(value, list) else [value]
            is_block = bool(items) and isinstance(items[0], ast.stmt)
            for item in items:
                if isinstance(item, ast.AST):
                    self._enter(node, item, items if is_block else None, site, outer, name)

    def outermost(self, site: Site) -> ast.FunctionDef | None:
        """The function that a place is in, and that is in no other."""
        found = site.caller
        while found is not None and self.sites[id(found)].caller is not None:
            found = self.sites[id(found)].caller
        return found

    def read_again(self, function: Any) -> None:
        """After an edit of an outermost function."""
        site = self.sites[id(function)]
        self._enter(site.parent, function, site.block, None, set(), "body")

    def _enter(self, parent: Any, node: Any, block: Any, site: Site | None, outer: set[str], name: str) -> None:
        caller = site.caller if site else None
        in_loop, delayed = (site.in_loop, site.delayed) if site else (False, False)
        if isinstance(parent, ast.FunctionDef):
            caller, in_loop, delayed = (parent, False, False) if name == "body" else (None, False, True)
        if isinstance(parent, LOOPS) and name == "body":
            in_loop = True
        if isinstance(parent, (ast.Lambda, ast.While, *COMPREHENSIONS)) and block is None:
            delayed = True
        statement = node if isinstance(node, ast.stmt) else site.statement if site else None
        where = block if block is not None else site.block if site else []
        here = Site(node, parent, caller, statement, where, in_loop, delayed)  # type: ignore[arg-type]
        self.sites[id(node)] = here
        if isinstance(node, ast.FunctionDef):
            own = identifiers(node) | outer
            self.names[id(node)] = own
            self.bound[id(node)] = bound_in(node) | outer
            self.read(node, here, self.bound[id(node)])
        else:
            self.read(node, here, outer)


def inlined(tree: ast.Module, facts: Interpreter) -> bool:
    """Do it once over a program; whether anything was done. Nodes of the tree must be those of the facts."""
    places = Places()
    places.read(tree, None, set())
    present = {id(node) for node in walk(tree)}
    declared = (node.names for node in walk(tree) if isinstance(node, ast.Nonlocal | ast.Global))
    places.rebound = {name for names in declared for name in names}
    calls: dict[FunctionFacts, list[int]] = {}
    for key, targets in facts.calls.items():
        for target in targets:
            if target is not None:
                calls.setdefault(target[0], []).append(key)
    escaped = escaping(tree, facts, places)
    copied: set[int] = set()  # functions whose insides are in several places now
    done = False
    for function in list(facts.functions.values()):
        keys = calls.get(function, [])
        if id(function.node) not in present or function in escaped or not keys or not is_candidate(function, facts):
            continue
        sites = [places.sites.get(key) for key in keys]
        if any(site is None or site.caller is None or id(site.node) not in present for site in sites):
            continue
        if any(facts.calls[key] != {next(iter(facts.calls[key]))} for key in keys):
            continue
        known = [site for site in sites if site is not None]
        around = [places.outermost(site) for site in known]
        if any(outer is None or outer is function.node or id(outer) in copied for outer in around):
            continue
        if Inliner(function, known, facts, places).run():
            if len(known) > 1:
                copied.add(id(function.node))
            for outer in around:
                places.read_again(outer)
            done = True
    return done


def is_candidate(function: FunctionFacts, facts: Interpreter) -> bool:
    node = function.node
    if not isinstance(node, ast.FunctionDef) or function.lost or function.is_generator or function in facts.spread:
        return False
    if function.kind not in ("plain", "property") or node in facts.context_managers:
        return False
    decorators = [ast.unparse(item) for item in node.decorator_list]
    if decorators not in ([], ["property"]) or node.args.vararg or node.args.kwarg or node.args.posonlyargs:
        return False
    if function.scope.parent is not facts.module and function.owner is None:
        return False  # a function inside of a function
    if function.owner is not None:
        named = node.name.startswith("__") and node.name != "__call__"
        forward = node.name == "forward" and function.owner.is_module()
        if named or forward or facts.overrides(function.owner, node.name):
            return False
        if function.owner.scope.parent is not facts.module:
            return False
    kinds = (ast.Nonlocal, ast.Global, ast.ClassDef, ast.Yield, ast.YieldFrom, ast.Import, ast.ImportFrom)
    inside = list(walk(node))
    if any(isinstance(n, kinds) for n in inside):
        return False
    return not any(isinstance(n, ast.Name) and n.id in ("super", "locals", "vars") for n in inside)


def escaping(tree: ast.Module, facts: Interpreter, places: Places) -> set[FunctionFacts]:
    """Functions that are used other than by calling them."""
    found: set[FunctionFacts] = set()
    for node in walk(tree):
        if not isinstance(node, ast.expr) or isinstance(getattr(node, "ctx", None), ast.Store):
            continue
        parent = places.sites[id(node)].parent
        if isinstance(parent, ast.Call) and parent.func is node and id(parent) in facts.calls:
            continue
        for atom in facts.values.get(id(node), ()):
            function = atom.function if isinstance(atom, Bound) else atom
            if isinstance(function, FunctionFacts):
                found.add(function)
    return found


class Inliner:
    """One function into its calls."""

    def __init__(self, function: FunctionFacts, sites: list[Site], facts: Interpreter, places: Places):
        self.function, self.sites, self.facts, self.places = function, sites, facts, places
        self.body = without_docstring(function.node.body)
        self.local = bound_in(function.node)
        self.globals = identifiers(ast.Module(self.body, [])) - self.local
        self.rebound = places.rebound

    def run(self) -> bool:
        if any(self.globals & self.places.bound[id(site.caller)] for site in self.sites):
            return False  # a name means something else there
        expression = one_expression(self.body)
        if expression is not None and self._fits(expression):
            plans = [self._arguments(site) for site in self.sites]
            if all(plan is not None and self._substitutable(expression, plan) for plan in plans):
                if len(self.sites) == 1:  # the expression itself moves, with all that is known of it
                    self.function.node.body = [ast.Return(copied(expression))]
                for site, plan in zip(self.sites, plans):
                    moved = expression if len(self.sites) == 1 else copied(expression)
                    self._replace(site, substituted(moved, plan or {}))
                return True
        return len(self.sites) == 1 and self.function.kind == "plain" and self._statements(self.sites[0])

    def _fits(self, expression: ast.expr) -> bool:
        return len(self.sites) == 1 or len(ast.unparse(expression)) <= MOST_REPEATED

    def _arguments(self, site: Site) -> dict[str, ast.expr] | None:
        """Parameter -> argument; None where that cannot be told."""
        node, parameters = site.node, [p.arg for p in self.function.node.args.args]
        only_named = [p.arg for p in self.function.node.args.kwonlyargs]
        found: dict[str, ast.expr] = {}
        if self.function.owner is not None:
            receiver = node.func if isinstance(node, ast.Call) else node
            if self.function.name == "__call__" and isinstance(node, ast.Call):
                found[parameters[0]] = receiver
            elif isinstance(receiver, ast.Attribute) and receiver.attr == self.function.name:
                found[parameters[0]] = receiver.value
            else:
                return None
        elif not isinstance(getattr(node, "func", None), ast.Name) or node.func.id != self.function.name:
            return None
        if isinstance(node, ast.Call):
            if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
                return None
            found |= dict(zip(parameters[len(found) :], node.args))
            found |= {k.arg: k.value for k in node.keywords if k.arg is not None}
        for name in [*parameters, *only_named]:
            if name not in found:
                default = self.function.default_of(name)
                if not isinstance(default, ast.Constant):
                    return None
                found[name] = default
        return found if set(found) == {*parameters, *only_named} else None

    def _substitutable(self, expression: ast.expr, plan: dict[str, ast.expr]) -> bool:
        inner = bound_in(expression)
        uses = uses_of(expression, plan)
        loud = [name for name, value in plan.items() if not is_pure(value)]
        if len(loud) > 1:
            return False
        for name, value in plan.items():
            if inner & identifiers(value) or name in inner:
                return False
            count, sure = uses[name]
            plain = isinstance(value, ast.Constant | ast.Name)
            if name in loud and (count != 1 or not sure or not comes_first(expression, name)):
                return False
            if not plain and count > 1 and not (count <= 2 and is_chain(value) and is_pure(expression)):
                return False
            if not plain and count == 1 and not sure and not is_chain(value):
                return False
            if count and self._changes_before(expression, name, value):
                return False
        return True

    def _changes_before(self, expression: ast.expr, name: str, value: ast.expr) -> bool:
        """Whether an argument may be something else by the time that the expression comes to it."""
        kinds = (ast.Attribute, ast.Subscript, ast.Call, ast.BinOp, *COMPREHENSIONS)
        changing = any(isinstance(n, kinds) or getattr(n, "id", "") in self.rebound for n in walk(value))
        if not changing or is_pure(expression):
            return False
        order = in_order(expression)
        positions = [i for i, n in enumerate(order) if isinstance(n, ast.Name) and n.id == name]
        calls = [n for n in order[: max(positions)] if isinstance(n, ast.Call)]
        if is_chain(value):  # only the program itself assigns to its variables and attributes
            return any(self.facts.calls.get(id(call)) != {None} for call in calls)
        return not all(map(is_pure, calls))

    def _replace(self, site: Site, value: ast.expr) -> None:
        for name, held in ast.iter_fields(site.parent):
            if held is site.node:
                setattr(site.parent, name, value)
            elif isinstance(held, list):
                held[:] = [value if item is site.node else item for item in held]

    # -- statements ---------------------------------------------------------------------------------------------------
    def _statements(self, site: Site) -> bool:
        plan = self._arguments(site)
        if plan is None or site.delayed or not isinstance(site.statement, SIMPLE):
            return False
        returns = [n for n in walk(ast.Module(self.body, [])) if isinstance(n, ast.Return)]
        tail = isinstance(site.statement, ast.Return) and site.statement.value is site.node
        last = self.body[-1] if self.body else None
        at_end = isinstance(last, ast.Return) and returns == [last]
        if not (tail or at_end or not returns):
            return False
        if (
            not returns
            and not tail
            and not (isinstance(site.statement, ast.Expr) and site.statement.value is site.node)
        ):
            return False
        if not tail and not first_in(site.statement, site.node):
            return False
        closures = any(isinstance(n, (*SCOPES, ast.GeneratorExp)) for n in walk(ast.Module(self.body, [])))
        if closures and site.in_loop:
            return False
        self._move(site, plan, tail, closures)
        return True

    def _move(self, site: Site, plan: dict[str, ast.expr], tail: bool, closures: bool) -> None:
        taken = set(self.places.names[id(site.caller)])
        stored = {
            n.id for n in walk(ast.Module(self.body, [])) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
        }
        uses = uses_of(ast.Module(self.body, []), plan)
        straight: dict[str, ast.expr] = {}
        before: list[ast.stmt] = []
        mapping: dict[str, str] = {}
        caller_stores = counts_of_stores(site.caller)
        inner = bound_in(ast.Module(self.body, []))
        for name, value in plan.items():
            fixed = isinstance(value, ast.Constant) or (
                isinstance(value, ast.Name)
                and value.id not in self.rebound
                and (not closures or caller_stores.get(value.id, 0) == 0)
            )
            if name not in stored and fixed and not (identifiers(value) & inner):
                straight[name] = value
                continue
            if not uses[name][0] and name not in stored and is_pure(value):
                continue
            mapping[name] = fresh(name if name != "self" else own_name(value), taken)
            before.append(ast.Assign([ast.Name(mapping[name], ast.Store())], value))
        for name in sorted(self.local - set(plan)):
            mapping[name] = fresh(name, taken)
        block = self.body
        for node in walk(ast.Module(block, [])):
            if isinstance(node, ast.FunctionDef | ast.ExceptHandler) and node.name in mapping:
                node.name = mapping[node.name]
            elif isinstance(node, ast.arg) and node.arg in mapping:
                node.arg = mapping[node.arg]
        moved = substituted(ast.Module(block, []), straight, mapping).body
        value = None
        last = moved[-1] if moved else None  # a body of which nothing is left is empty
        if tail and not isinstance(last, ast.Return | ast.Raise):
            moved.append(ast.Return(ast.Constant(None)))
        elif not tail and isinstance(last, ast.Return):
            value = last.value
            moved.pop()
        for item in before:
            ast.copy_location(item, site.statement)
            ast.fix_missing_locations(item)
        position = next(i for i, item in enumerate(site.block) if item is site.statement)
        kept: list[ast.stmt] = []
        if not tail and value is not None:
            self._replace(site, value)
            kept = [site.statement]
        elif not tail and moved == [] and not before:
            kept = [ast.copy_location(ast.Pass(), site.statement)]
        site.block[position : position + 1] = [*before, *moved, *kept]
        self.function.node.body = [ast.copy_location(ast.Pass(), self.function.node)]


def one_expression(body: list[ast.stmt]) -> ast.expr | None:
    """What a function returns that does nothing else; two ways to return become `a if test else b`."""
    if not body or not isinstance(body[-1], ast.Return) or body[-1].value is None:
        return None
    if len(body) == 1:
        return body[0].value  # type: ignore[attr-defined]
    first = body[0]
    if isinstance(first, ast.If) and not first.orelse:
        inside, rest = one_expression(first.body), one_expression(body[1:])
        if inside is not None and rest is not None:
            return ast.copy_location(ast.IfExp(first.test, inside, rest), first)
    return None


def uses_of(node: ast.AST, plan: dict[str, ast.expr]) -> dict[str, tuple[int, bool]]:
    """How often each name is read, and whether surely once where it is read."""
    found: dict[str, tuple[int, bool]] = dict.fromkeys(plan, (0, True))

    def visit(item: ast.AST, sure: bool) -> None:
        if isinstance(item, ast.Name) and item.id in found and isinstance(item.ctx, ast.Load):
            count, before = found[item.id]
            found[item.id] = (count + 1, before and sure)
        for child in children(item):
            inner = sure and not isinstance(item, (*SCOPES, *COMPREHENSIONS, *LOOPS))
            if isinstance(item, ast.IfExp) and child is not item.test:
                inner = False
            if isinstance(item, ast.BoolOp) and child is not item.values[0]:
                inner = False
            visit(child, inner)

    visit(node, True)
    return found


def is_chain(node: ast.expr) -> bool:
    """a.b.c"""
    return isinstance(node, ast.Name | ast.Constant) or (isinstance(node, ast.Attribute) and is_chain(node.value))


def in_order(node: ast.AST) -> list[ast.AST]:
    """Nodes of an expression in the order in which they are done."""
    if isinstance(node, ast.IfExp):
        parts: list[Any] = [node.test, node.body, node.orelse]
    elif isinstance(node, ast.Assign):
        parts = [node.value, *node.targets]
    elif isinstance(node, ast.AnnAssign):
        parts = [node.value, node.target]
    else:
        parts = children(node)
    return [item for part in parts if part is not None for item in in_order(part)] + [node]


def quiet(items: list[ast.AST], callees: set[int]) -> bool:
    """Whether doing these first or later makes no difference."""
    allowed = (ast.Name, ast.Constant, ast.expr_context, ast.keyword, ast.Tuple, ast.List, ast.Dict, ast.operator)
    return all(isinstance(item, allowed) or id(item) in callees for item in items)


def functions_called(node: ast.AST) -> set[int]:
    """The `a.b` of calls `a.b(…)`, which are looked up and do nothing."""
    found: set[int] = set()
    for item in walk(node):
        if isinstance(item, ast.Call):
            part: Any = item.func
            while isinstance(part, ast.Attribute):
                found.add(id(part))
                part = part.value
    return found


def comes_first(expression: ast.expr, name: str) -> bool:
    """Whether a name is read before anything is done."""
    order = in_order(expression)
    position = next(i for i, n in enumerate(order) if isinstance(n, ast.Name) and n.id == name)
    return quiet(order[:position], functions_called(expression))


def first_in(statement: ast.stmt, node: ast.AST) -> bool:
    """Whether a call is the first thing that a statement does, and surely done."""
    if isinstance(statement, ast.AugAssign):
        return False
    part: Any = statement
    if isinstance(statement, ast.For | ast.If):  # what is evaluated once before the rest of it
        part = statement.iter if isinstance(statement, ast.For) else statement.test
        if not any(item is node for item in walk(part)):
            return False
    order = in_order(part)
    inside = {id(item) for item in walk(node)}
    position = next((i for i, item in enumerate(order) if id(item) in inside), len(order))
    for item in walk(part):
        if isinstance(item, ast.IfExp) and any(n is node for n in walk(ast.Tuple([item.body, item.orelse]))):
            return False
        if isinstance(item, ast.BoolOp) and any(n is node for n in walk(ast.Tuple(item.values[1:]))):
            return False
        if isinstance(item, ast.Compare) and len(item.ops) > 1 and any(n is node for n in walk(item)):
            return False
    return quiet(order[:position], functions_called(part))


def counts_of_stores(node: ast.AST | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in walk(node) if node is not None else ():
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
            found[item.id] = found.get(item.id, 0) + 1
    return found


def own_name(value: ast.expr) -> str:
    return value.attr.lstrip("_") if isinstance(value, ast.Attribute) else "owner"


def fresh(name: str, taken: set[str]) -> str:
    """A name that is not taken yet, and is from now on."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


class Substituted(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr], names: dict[str, str]):
        self.values, self.names = values, names
        self.used: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.values:
            is_first = node.id not in self.used
            self.used.add(node.id)
            return self.values[node.id] if is_first else copied(self.values[node.id])
        node.id = self.names.get(node.id, node.id)
        return node


def substituted(node: Any, values: dict[str, ast.expr], names: dict[str, str] | None = None) -> Any:
    """Names become expressions or other names, in place; the first use of an expression is that expression itself."""
    return Substituted(values, names or {}).visit(node)
