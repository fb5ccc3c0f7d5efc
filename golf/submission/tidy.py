"""Variables that only pass a value on: what inlining leaves behind, and what reads as well without a name.

Within a function: a variable that is another one under a second name goes (`x = y`, if `y` stays what it is while `x`
is read); a value that the next statement uses first of all, and nothing else, is written there if it fits; what is
assigned together and fills more than a line is assigned one after the other. Of a class, `ClassVar` goes, which only
says what the value does.
Invariant: everything is evaluated as often as before and in the same order.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.inline import SCOPES, first_in, substituted, uses_of
from golf.submission.walk import walk, within_trials

DELAYED = (*SCOPES, ast.GeneratorExp, ast.ClassDef)
NEXT = (ast.Assign, ast.AnnAssign, ast.Expr, ast.Return, ast.For, ast.If)
WIDEST = 100  # characters of a statement into which a value is written
BLOCKS = ("body", "orelse", "finalbody")


def tidied(tree: ast.Module) -> None:
    """Edit every function of a program in place."""
    for node in walk(tree):
        if isinstance(node, ast.ClassDef):
            kept = [item for item in node.body if not is_idle_constructor(item, node)] or [ast.Pass()]
            node.body = [without_class_variable(item, node) for item in kept]
    declared = (node.names for node in walk(tree) if isinstance(node, ast.Nonlocal | ast.Global))
    rebound = {name for names in declared for name in names}
    for node in [n for n in walk(tree) if isinstance(n, ast.FunctionDef)]:
        Variables(node, rebound).run()


def is_idle_constructor(item: ast.stmt, owner: ast.ClassDef) -> bool:
    """`def __init__(self): pass` of a class that would have none otherwise."""
    if owner.bases or not isinstance(item, ast.FunctionDef) or item.name != "__init__" or item.decorator_list:
        return False
    arguments = item.args
    others = [*arguments.args[1:], *arguments.posonlyargs, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return not any(others) and all(isinstance(part, ast.Pass) for part in item.body)


def without_class_variable(item: ast.stmt, owner: ast.ClassDef) -> ast.stmt:
    """`x: ClassVar[int] = 1` as `x = 1`, which is no field of a dataclass either (of a NamedTuple both would be)."""
    match item:
        case ast.AnnAssign(
            target=ast.Name() as target,
            annotation=ast.Name("ClassVar") | ast.Subscript(value=ast.Name("ClassVar")),
            value=ast.expr() as value,
        ) if all(isinstance(base, ast.Name) and base.id != "NamedTuple" for base in owner.bases):
            return ast.copy_location(ast.Assign([target], value), item)
        case _:
            return item


class Variables:
    """The variables of one function: where each is assigned and read."""

    def __init__(self, function: ast.FunctionDef, rebound: set[str]):
        self.function, self.rebound, self.tried = function, rebound, within_trials(function)
        self.fixed: set[str] = set()  # parameters, and names that are not this function's alone
        self.stores: dict[str, int] = {}
        self.loads: dict[str, int] = {}
        self.delayed: set[str] = set()  # read or bound where it is not known when
        for node in walk(function):
            if isinstance(node, ast.Name):
                counts = self.loads if isinstance(node.ctx, ast.Load) else self.stores
                counts[node.id] = counts.get(node.id, 0) + 1
            elif isinstance(node, ast.arg):
                self.fixed.add(node.arg)
            elif isinstance(node, ast.Nonlocal | ast.Global):
                self.fixed.update(node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.fixed.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self.fixed.add(node.name)
            if isinstance(node, DELAYED) and node is not function:
                self.delayed |= {n.id for n in walk(node) if isinstance(n, ast.Name)}
                self.delayed |= {n.name for n in walk(node) if isinstance(n, ast.FunctionDef)}

    def run(self) -> None:
        for owner in [n for n in walk(self.function) if isinstance(n, ast.stmt | ast.ExceptHandler)]:
            for name in BLOCKS:
                block = getattr(owner, name, None)
                if isinstance(block, list) and (owner is self.function or not isinstance(owner, ast.FunctionDef)):
                    self.shorten(block)
                    if not block and name == "body":
                        block.append(ast.Pass())

    def shorten(self, block: list[ast.stmt]) -> None:
        position = 0
        while position < len(block):
            self.drop_copies(block, position)
            self.take_apart(block, position)
            gone = self.is_empty_loop(block[position]) or self.is_copy(block, position)
            if gone or self.is_replaced(block, position) or self.moves(block, position):
                del block[position]
                position = max(position - 1, 0)
            else:
                position += 1

    def is_empty_loop(self, node: ast.stmt) -> bool:
        match node:
            case ast.For(iter=ast.List(elts=[]) | ast.Tuple(elts=[]), orelse=[]):
                return True
            case ast.For(iter=ast.Call(func=ast.Attribute(value=ast.Dict(keys=[]), attr="items")), orelse=[]):
                return True
            case _:
                return False

    def single(self, node: ast.stmt) -> str | None:
        """The variable that a statement gives its only value."""
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            return None
        name = node.targets[0].id
        return name if self.stores.get(name) == 1 and name not in self.fixed else None

    def is_copy(self, block: list[ast.stmt], position: int) -> bool:
        """`x = y`: what reads `x` reads `y` from now on."""
        node: Any = block[position]
        return (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and self.is_same(node.targets[0], node.value, block, position)
        )

    def drop_copies(self, block: list[ast.stmt], position: int) -> None:
        """The same of what is assigned together with other things: `x, z = y, 1`."""
        match block[position]:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) as node:
                names = {target.id for target in targets if isinstance(target, ast.Name)}
                if len(targets) != len(values) or len(names) < len(targets):
                    return
                pairs = [
                    (target, value)
                    for target, value in zip(targets, values)
                    if getattr(value, "id", "") in names or not self.is_same(target, value, block, position)
                ]
                if 0 < len(pairs) < len(targets):
                    single = len(pairs) == 1
                    node.targets = [pairs[0][0] if single else ast.Tuple([t for t, _ in pairs], ast.Store())]
                    node.value = pairs[0][1] if single else ast.Tuple([v for _, v in pairs], ast.Load())
                elif not pairs:
                    block[position] = ast.copy_location(ast.Pass(), node)
            case _:
                pass

    def is_same(self, target: ast.expr, value: ast.expr, block: list[ast.stmt], position: int) -> bool:
        name = target.id if isinstance(target, ast.Name) else ""
        if self.stores.get(name) != 1 or name in self.fixed | self.delayed or not isinstance(value, ast.Name):
            return False
        source, rest = value.id, ast.Module(block[position + 1 :], [])
        own = self.stores.get(source, 0) or source in {a.arg for a in arguments_of(self.function)}
        if source == name or not own or source in self.delayed:
            return False
        held = [n for n in walk(rest) if isinstance(n, ast.Name) and n.id in (name, source)]
        reads = sum(n.id == name for n in held)
        if reads != self.loads.get(name, 0) or any(n.id == source and not isinstance(n.ctx, ast.Load) for n in held):
            return False
        for item in held:
            item.id = source
        self.loads[source] = self.loads.get(source, 0) + reads - 1
        return True

    def take_apart(self, block: list[ast.stmt], position: int) -> None:
        """`x, y = long, long` as two statements, where nothing can tell the difference."""
        match block[position]:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) as node:
                names = {target.id for target in targets if isinstance(target, ast.Name)}
            case _:
                return
        if len(names) < len(targets) or len(values) != len(targets) or len(ast.unparse(node)) <= WIDEST:
            return
        if names & (self.delayed | self.rebound) or id(node) in self.tried or getattr(node, "commented", False):
            return
        if any(isinstance(n, ast.Starred) or getattr(n, "id", None) in names for value in values for n in walk(value)):
            return
        block[position : position + 1] = [
            ast.copy_location(ast.Assign([target], value), value) for target, value in zip(targets, values)
        ]

    def is_replaced(self, block: list[ast.stmt], position: int) -> bool:
        """`x = y` right before `x = f(x)`: what that reads is `y`."""
        match block[position : position + 2]:
            case [ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=source)), ast.Assign() as following]:
                targets = following.targets
            case _:
                return False
        if len(targets) != 1 or not isinstance(targets[0], ast.Name) or targets[0].id != name or source == name:
            return False
        if {name, source} & (self.delayed | self.rebound) or getattr(block[position], "commented", False):
            return False
        if id(following) in self.tried:
            return False
        held = [n for n in walk(following.value) if isinstance(n, ast.Name) and n.id in (name, source)]
        if not all(isinstance(n.ctx, ast.Load) for n in held):
            return False
        for item in held:
            if item.id == name:
                item.id = source
                self.loads[name], self.loads[source] = self.loads[name] - 1, self.loads.get(source, 0) + 1
        self.loads[source] = self.loads.get(source, 0) - 1
        self.stores[name] -= 1
        return True

    def moves(self, block: list[ast.stmt], position: int) -> bool:
        """`x = value` before a statement that uses `x` once and first."""
        node: Any = block[position]
        name = self.single(node)
        if name is None or self.loads.get(name) != 1 or position + 1 == len(block):
            return False
        following: Any = block[position + 1]
        if getattr(node, "commented", False) or getattr(following, "commented", False):
            return False  # `Original` has marked what has a comment, which would be lost
        if not isinstance(following, NEXT) or any(isinstance(n, ast.Yield | ast.YieldFrom) for n in walk(node.value)):
            return False
        field = {ast.For: "iter", ast.If: "test"}.get(type(following), "value")
        part: Any = getattr(following, field)
        use = next((n for n in walk(part) if isinstance(n, ast.Name) and n.id == name), None) if part else None
        if any(getattr(n, "id", None) in self.rebound for n in walk(following)):
            return False  # the value may change it
        if use is None or uses_of(part, {name: part})[name] != (1, True) or not first_in(following, use):
            return False
        if len(ast.unparse(part)) + len(ast.unparse(node.value)) - len(name) > WIDEST:
            return False
        setattr(following, field, substituted(part, {name: node.value}))
        return True


def arguments_of(function: ast.FunctionDef) -> list[ast.arg]:
    found = function.args
    return [*found.posonlyargs, *found.args, *found.kwonlyargs]
