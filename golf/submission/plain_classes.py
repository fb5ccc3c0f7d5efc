"""Classes that say nothing any more: without state they are functions, and with one heir they are that one.

`Codec().decode(data)`, where no method looks at its object, becomes `decode(data)`. A class that is only there for one
other to come from is merged into that one. Invariant: this is done only where nobody can tell the difference, because
every use of the class in the program is known, by its name.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from typing import Any

from golf.submission.checks import without_docstring
from golf.submission.folding import is_text
from golf.submission.names import identifiers
from golf.submission.pure import is_pure
from golf.submission.unused import all_annotations, bound_names
from golf.submission.walk import children, walk

INSPECTED = {"__dict__", "__mro__", "__bases__", "__base__", "__subclasses__", "__qualname__", "__class__"}
PASSING = {"torch.no_grad()", "torch.inference_mode()"}


def without_needless_classes(tree: ast.Module) -> None:
    """Edit a program in place."""
    program = Program(tree)
    for node in [item for item in tree.body if isinstance(item, ast.ClassDef)]:
        if program.is_stateless(node):
            program.unfold(node)
    for node in [item for item in tree.body if isinstance(item, ast.ClassDef)]:
        heir = program.only_heir(node)
        if heir is not None:
            program.merge(node, heir)


class Program:
    """Every use of every class of a program."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.parents = {id(child): node for node in walk(tree) for child in children(node)}
        notes = [n for item in all_annotations(tree) for n in walk(item)]
        fields = [n for c in walk(tree) if isinstance(c, ast.ClassDef) for item in c.body for n in self._noted(item)]
        unread = set(map(id, notes)) - set(map(id, fields))  # types of parameters, results and variables
        self.uses: dict[str, list[ast.Name]] = {}
        for node in walk(tree):
            if isinstance(node, ast.Name) and id(node) not in unread:
                self.uses.setdefault(node.id, []).append(node)
        # As the program is before it is edited: functions made of methods get names that nothing has.
        self.classes = [node for node in walk(tree) if isinstance(node, ast.ClassDef)]
        self.named = Counter(node.name for node in walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef))
        self.arguments = {node.arg for node in walk(tree) if isinstance(node, ast.arg)}
        self.bound = Counter(name for node in tree.body for name in bound_names(node))
        methods = {id(item) for c in walk(tree) if isinstance(c, ast.ClassDef) for item in c.body}
        self.taken = set(dir(builtins))
        for node in walk(tree):
            if isinstance(node, ast.Name):
                self.taken.add(node.id)
            elif not isinstance(node, ast.FunctionDef) or id(node) not in methods:
                self.taken |= names_given(node)
        names = {n.attr for n in walk(tree) if isinstance(n, ast.Attribute)}
        self.inspects = bool(INSPECTED & names) or "vars" in self.uses
        # Whether a function out of a dict could become a method, or a method be asked for its object.
        asked = {"__self__", "__func__", "__dict__"} & names or {"type", "vars", "setattr"} & self.uses.keys()
        self.binds = bool(asked)

    @staticmethod
    def _noted(item: ast.stmt) -> list[ast.AST]:
        return list(walk(item.annotation)) if isinstance(item, ast.AnnAssign) else []

    def is_bound_once(self, node: ast.ClassDef) -> bool:
        stored = any(not isinstance(use.ctx, ast.Load) for use in self.uses.get(node.name, []))
        return self.bound[node.name] == 1 == self.named[node.name] and node.name not in self.arguments and not stored

    # -- classes without state ----------------------------------------------------------------------------------------
    def is_stateless(self, node: ast.ClassDef) -> bool:
        """Whether a class is nothing but functions that are called as methods of new objects."""
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
        if node.bases or node.keywords or node.decorator_list or not methods or not self.is_bound_once(node):
            return False
        if len(methods) != len(without_docstring(node.body)) or not all(map(self.ignores_its_object, methods)):
            return False
        names = {method.name for method in methods}
        uses = self.uses.get(node.name, [])
        return bool(uses) and all(self.called_as(use) in names for use in uses)

    def ignores_its_object(self, method: ast.FunctionDef) -> bool:
        arguments = method.args
        if arguments.posonlyargs or not arguments.args or len(arguments.defaults) == len(arguments.args):
            return False
        if method.name.startswith("__") and method.name != "__call__":
            return False
        if any(ast.unparse(item) not in PASSING for item in method.decorator_list):
            return False
        defaults = [item for item in [*arguments.defaults, *arguments.kw_defaults] if item is not None]
        if not all(isinstance(item, ast.Constant) or self.is_fixed(item) for item in defaults):
            return False
        names = identifiers(ast.Module(method.body, []))
        return not {arguments.args[0].arg, "super", "__class__"} & names

    def is_fixed(self, node: ast.expr) -> bool:
        """Whether an expression is a name that the program gives a meaning once, at its top level."""
        return isinstance(node, ast.Name) and self.bound[node.id] == 1

    def called_as(self, use: ast.Name) -> str | None:
        """The method of `Name().method(…)` and `{key: Name().method}`, and `__call__` of `Name()(…)`."""
        made: Any = self.parents.get(id(use))
        if not isinstance(made, ast.Call) or made.func is not use or made.args or made.keywords:
            return None
        around: Any = self.parents.get(id(made))
        if isinstance(around, ast.Call) and around.func is made:
            return "__call__"
        if not isinstance(around, ast.Attribute) or not isinstance(around.ctx, ast.Load):
            return None
        user: Any = self.parents.get(id(around))
        is_called = isinstance(user, ast.Call) and user.func is around
        is_kept = isinstance(user, ast.Dict) and not self.binds and all(key is not around for key in user.keys)
        return around.attr if is_called or is_kept else None

    def unfold(self, node: ast.ClassDef) -> None:
        """The methods of a class as functions."""
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
        names = {method.name: self.new_name(node.name, method.name) for method in methods}
        for use in self.uses[node.name]:
            called = self.called_as(use)
            made: Any = self.parents[id(use)]
            function = ast.copy_location(ast.Name(names[called or ""], ast.Load()), made)
            method: Any = self.parents[id(made)]
            replaced = method if isinstance(method, ast.Attribute) else made
            owner = self.parents[id(function)] = self.parents[id(replaced)]
            put(function, replaced, owner)
        for method in methods:
            method.name = names[method.name]
            method.args.args.pop(0)
            if len(methods) == 1 and is_text(node.body[0]) and not is_text(method.body[0]):
                method.body.insert(0, node.body[0])
        place = next(i for i, item in enumerate(self.tree.body) if item is node)
        self.tree.body[place : place + 1] = methods

    def new_name(self, owner: str, method: str) -> str:
        of_class = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", owner).lower()
        wanted = [method, method.lstrip("_")] if method != "__call__" else []
        wanted += [of_class, f"{of_class}_{method.strip('_')}"]
        found = next((name for name in wanted if name not in self.taken), wanted[-1])
        while found in self.taken:
            found += "_"
        self.taken.add(found)
        return found

    # -- classes with one heir ----------------------------------------------------------------------------------------
    def only_heir(self, node: ast.ClassDef) -> ast.ClassDef | None:
        """The class that a class is only there for, if the two can be one."""
        heirs = [c for c in self.classes if any(isinstance(b, ast.Name) and b.id == node.name for b in c.bases)]
        if len(heirs) != 1 or len(heirs[0].bases) != 1 or heirs[0] not in self.tree.body or self.inspects:
            return None
        heir = heirs[0]
        if any(item.keywords or item.decorator_list or not self.is_bound_once(item) for item in (node, heir)):
            return None
        if not all(use is heir.bases[0] or self.asks_for_kind(use) for use in self.uses[node.name]):
            return None
        if any(name.id == "super" for name in walk(heir) if isinstance(name, ast.Name)):
            return None
        if not all(map(self.may_move, without_docstring(node.body))) or "NamedTuple" in map(ast.unparse, node.bases):
            return None
        members, own = own_members(node), own_members(heir)
        if members is None or own is None:
            return None
        read = {n.id for item in [*node.body, *heir.body] for part in evaluated_in(item) for n in names_in(part)}
        return None if read & members.keys() else heir  # read in the body of a class, where a member may be meant

    def asks_for_kind(self, use: ast.Name) -> bool:
        """Whether a class is only what an exception or an object is asked to be."""
        around: Any = self.parents.get(id(use))
        if isinstance(around, ast.Tuple):
            use, around = around, self.parents.get(id(around))  # type: ignore[assignment]
        if isinstance(around, ast.ExceptHandler):
            return around.type is use
        asks = isinstance(around, ast.Call) and isinstance(around.func, ast.Name) and around.func.id == "isinstance"
        return asks and len(around.args) == 2 and around.args[1] is use

    def may_move(self, item: ast.stmt) -> bool:
        """Whether a member of a class is the same a few definitions later."""
        held = evaluated_in(item)
        names = {n.id for part in held for n in names_in(part)}
        decorated = isinstance(item, ast.FunctionDef) and bool(item.decorator_list)
        plain = all(is_pure(part) or (decorated and ast.unparse(part) in PASSING) for part in held)
        return plain and all(self.bound[name] <= 1 for name in names)

    def merge(self, node: ast.ClassDef, heir: ast.ClassDef) -> None:
        own = own_members(heir) or {}
        texts = [item for item in heir.body if is_text(item)][:1] or [item for item in node.body if is_text(item)][:1]
        inherited = [i for i in without_docstring(node.body) if not set(names_of_member(i) or []) & own.keys()]
        members = [*inherited, *without_docstring(heir.body)]
        useful = [item for item in members if not isinstance(item, ast.Pass)]
        heir.body = [*texts, *(useful or ([] if texts else [ast.Pass()]))]
        heir.bases = node.bases
        for base in node.bases:
            self.parents[id(base)] = heir
        for use in self.uses[node.name]:
            use.id = heir.name
        self.uses[heir.name] = [*self.uses.get(heir.name, []), *self.uses.pop(node.name)]
        self.tree.body.remove(node)
        self.classes.remove(node)


def put(new: ast.AST, old: ast.AST, owner: ast.AST) -> None:
    """One node in the place of another that is directly below `owner`."""
    for name, value in ast.iter_fields(owner):
        if value is old:
            setattr(owner, name, new)
        elif isinstance(value, list):
            value[:] = [new if item is old else item for item in value]


def names_given(node: ast.AST) -> set[str]:
    """Names that a definition, a parameter, an import or a handler gives a meaning."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    name = node.arg if isinstance(node, ast.arg) else getattr(node, "name", None)
    return {name} if isinstance(name, str) else set()


def names_of_member(item: ast.stmt) -> list[str] | None:
    """What a statement of a class binds; None where it may do anything else."""
    if isinstance(item, ast.FunctionDef):
        return [item.name]
    if isinstance(item, ast.Pass):
        return []
    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
        return [] if item.value is None else [item.target.id]
    if isinstance(item, ast.Assign) and all(isinstance(target, ast.Name) for target in item.targets):
        return [target.id for target in item.targets if isinstance(target, ast.Name)]
    return None


def evaluated_in(item: ast.stmt) -> list[ast.expr]:
    """What is evaluated when a class is made."""
    if isinstance(item, ast.FunctionDef):
        defaults = [part for part in [*item.args.defaults, *item.args.kw_defaults] if part is not None]
        return [*defaults, *item.decorator_list]
    return [item.value] if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None else []


def names_in(node: ast.AST) -> list[ast.Name]:
    return [n for n in walk(node) if isinstance(n, ast.Name)]


def own_members(node: ast.ClassDef) -> dict[str, ast.stmt] | None:
    """The members of a class by their names; None if its body does something else."""
    found: dict[str, ast.stmt] = {}
    for item in without_docstring(node.body):
        names = names_of_member(item)
        if names is None or set(names) & found.keys():
            return None
        found |= dict.fromkeys(names, item)
    return found
