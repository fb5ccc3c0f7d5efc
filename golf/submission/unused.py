"""What nothing reads any more: parameters, fields, attributes, variables, definitions and imports.

A parameter goes together with its argument at every call, so all calls must be known and the argument must do nothing.
An attribute goes where its name is read nowhere in the program. In a torch module only plain values go, because setting
a submodule or a parameter registers it.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.interpret import Interpreter
from golf.submission.pure import is_pure
from golf.submission.values import Bound, Box, ClassFacts, Constant, FunctionFacts, Instance, foreign_has

Target = tuple[Any, str]  # a function and its parameter, or a record and its field


def remove_unused(tree: ast.Module, facts: Interpreter) -> None:
    """One sweep."""
    attributes = names_read_as_attributes(tree)
    remove_parameters(tree, facts, attributes)
    Attributes(facts, attributes).visit(tree)
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        remove_variables(node)
    remove_definitions(tree)


def names_read_as_attributes(tree: ast.AST) -> set[str]:
    """Names after a dot that are read, and those that getattr and the like are called with."""
    found: set[str] = set()
    any_name = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            found |= {a.value for a in node.args[1:] if isinstance(a, ast.Constant) and isinstance(a.value, str)}
            any_name |= not isinstance(node.args[1], ast.Constant)
    if any_name:
        found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


# -- parameters and fields --------------------------------------------------------------------------------------------
def remove_parameters(tree: ast.Module, facts: Interpreter, attributes: set[str]) -> None:
    present = {id(node) for node in ast.walk(tree)}
    dead = unread_parameters(facts, present) | unread_fields(facts, present, attributes)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    uses = [(node, targets_of(node, facts)) for node in calls]
    while True:
        before = len(dead)
        for node, targets in uses:
            for argument, wanted in targets:
                keeps = argument is not None and not is_pure(argument)
                if keeps or not wanted <= dead:
                    dead -= wanted
        if len(dead) == before:
            break
    for node, targets in uses:
        going = {id(argument) for argument, wanted in targets if wanted and wanted <= dead}
        node.args = [item for item in node.args if id(item) not in going]
        node.keywords = [item for item in node.keywords if id(item.value) not in going]
    for owner, name in dead:
        if isinstance(owner, FunctionFacts):
            drop_parameter(owner.node.args, name)
        else:
            for item in owner.lineage():
                item.node.body = [s for s in item.node.body if not is_field(s, name)] or [ast.Pass()]


def unread_parameters(facts: Interpreter, present: set[int]) -> set[Target]:
    found: set[Target] = set()
    for function in facts.functions.values():
        if id(function.node) not in present or function.lost or function in facts.spread or function.kind != "plain":
            continue
        if isinstance(function.node, ast.Lambda) or not function.live:
            continue
        body = ast.Module(function.node.body, [])
        used = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
        used |= {name for node in ast.walk(body) if isinstance(node, ast.Nonlocal) for name in node.names}
        names = facts.parameter_names(function)[1 if function.owner is not None else 0 :]
        found |= {(function, name) for name in names if name not in used}
    return found


def unread_fields(facts: Interpreter, present: set[int], attributes: set[str]) -> set[Target]:
    found: set[Target] = set()
    for record in facts.classes.values():
        lineage = record.lineage()
        whole = any(item.structural or item.lost for item in facts.classes.values() if record in item.lineage())
        if id(record.node) in present and record.is_record and not whole and record.instantiated and len(lineage) == 1:
            found |= {(record, name) for name, _ in record.fields if name not in attributes}
    return found


def targets_of(node: ast.Call, facts: Interpreter) -> list[tuple[ast.expr | None, set[Target]]]:
    """For each argument of a call, the parameters and fields it may end in; None is what arrives out of sight."""
    callees: list[tuple[Any, int, list[str]]] = []
    for entry in facts.calls.get(id(node), ()):
        if entry is not None:
            function, bound = entry
            names = [p.arg for p in function.parameters]
            callees.append((function, int(bound and function.kind != "staticmethod"), names))
    for record in facts.records.get(id(node), ()):
        names = [name for name, _ in record.all_fields()]
        is_replace = isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and node.func.id == "replace"
        )
        callees.append((record, 10**6 if is_replace else 0, names))
    partial = facts.boxes.get((id(node), "partial"))
    if partial is not None:
        for atom in partial.function:
            callees += partial_callee(atom)
    unsure = None in facts.calls.get(id(node), ()) and bool(callees)
    found: list[tuple[ast.expr | None, set[Target]]] = []
    explicit: set[Target] = set()
    spread = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
    for index, argument in enumerate(node.args):
        if isinstance(argument, ast.Starred):
            break
        wanted: set[Target] = set()
        for callee, shift, names in callees:
            position = index + shift - (1 if partial is not None else 0)
            if 0 <= position < len(names):
                wanted.add((callee, names[position]))
            elif not (partial is not None and index == 0) and shift < 10**6:
                unsure = True
        found.append((argument, wanted))
    for keyword in node.keywords:
        if keyword.arg is not None:
            found.append((keyword.value, {(callee, keyword.arg) for callee, _, _ in callees}))
    for _, wanted in found:
        explicit |= wanted
    if unsure or (spread and callees):
        every = {(callee, name) for callee, _, names in callees for name in [*names, *only_named(callee)]}
        blocked = every if unsure else every - explicit
        found = [(ast.Yield(), blocked | (wanted if unsure else set())) for _, wanted in [(None, set[Target]())]] + [
            (argument, wanted) for argument, wanted in found if not (wanted & blocked)
        ]
        if spread:  # positions behind a star are not known
            found = [(a, w) for a, w in found if a is not None]
    return found


def only_named(callee: Any) -> list[str]:
    return [p.arg for p in callee.node.args.kwonlyargs] if isinstance(callee, FunctionFacts) else []


def partial_callee(atom: Any) -> list[tuple[Any, int, list[str]]]:
    if isinstance(atom, ClassFacts):
        method = atom.method("__init__")
        if method is None:
            return [(atom, 0, [name for name, _ in atom.all_fields()])]
        return [(method, 1, [p.arg for p in method.parameters])]
    if isinstance(atom, FunctionFacts):
        return [(atom, 0, [p.arg for p in atom.parameters])]
    if isinstance(atom, Bound) and isinstance(atom.function, FunctionFacts):
        return [(atom.function, 1, [p.arg for p in atom.function.parameters])]
    return []


def drop_parameter(arguments: ast.arguments, name: str) -> None:
    """Take a parameter and its default out of a signature."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    arguments.defaults = [d for p, d in zip(positional, defaults) if p.arg != name and d is not None]
    arguments.args = [p for p in arguments.args if p.arg != name]
    kept = [(p, d) for p, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if p.arg != name]
    arguments.kwonlyargs, arguments.kw_defaults = [p for p, _ in kept], [d for _, d in kept]


def is_field(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name


# -- attributes -------------------------------------------------------------------------------------------------------
class Attributes(ast.NodeTransformer):
    """Takes out `self.x = value` and members of class bodies whose names nothing reads."""

    def __init__(self, facts: Interpreter, attributes: set[str]):
        self.facts, self.attributes = facts, attributes
        self.within: list[ClassFacts] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        facts = self.facts.classes[id(node)]
        self.within.append(facts)
        self.generic_visit(node)
        self.within.pop()
        if not facts.is_record:
            node.body = [item for item in node.body if not self._is_unread_member(item, facts)]
        node.body = node.body or [ast.Pass()]
        return node

    def _is_unread_member(self, node: ast.stmt, facts: ClassFacts) -> bool:
        if isinstance(node, ast.AnnAssign) and node.value is None:
            return True
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        if not isinstance(target, ast.Name) or target.id in self.attributes or target.id.startswith("__"):
            return False
        return not facts.foreign_bases() or not foreign_has(facts.foreign_bases(), target.id)

    def visit_Assign(self, node: ast.Assign) -> Any:
        if len(node.targets) != 1:
            return node
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Attribute) and self._is_unread(target, value):
            return None
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts))
            kept = [(t, v) for t, v in pairs if not (isinstance(t, ast.Attribute) and self._is_unread(t, v))]
            if len(kept) == len(pairs):
                return node
            if not kept:
                return None
            single = len(kept) == 1
            node.targets = [kept[0][0] if single else ast.Tuple([t for t, _ in kept], ast.Store())]
            node.value = kept[0][1] if single else ast.Tuple([v for _, v in kept], ast.Load())
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if isinstance(node.target, ast.Attribute) and node.value is not None:
            return None if self._is_unread(node.target, node.value) else node
        return node

    def _is_unread(self, target: ast.Attribute, value: ast.expr) -> bool:
        if target.attr in self.attributes or not is_pure(value) or not is_pure(target.value):
            return False
        if not (isinstance(target.value, ast.Name) and target.value.id == "self" and self.within):
            receivers = self.facts.values.get(id(target.value), frozenset())
            classes = [a.of for a in receivers if isinstance(a, Instance)]
            if not classes or len(classes) != len(receivers):
                return False
        else:
            classes = [c for c in self.facts.classes.values() if self.within[-1] in c.lineage()]
        for facts in classes:
            if facts.foreign_bases() and foreign_has(facts.foreign_bases(), target.attr):
                return False
            if facts.is_module() and not all(map(is_plain, self.facts.values.get(id(value), frozenset({None})))):
                return isinstance(value, ast.Constant)
            if any(isinstance(a, Instance) and False for a in ()):
                return False
        return True


def is_plain(atom: Any) -> bool:
    """Whether a torch module takes an attribute for a mere value."""
    if isinstance(atom, Instance):
        return not atom.of.is_module()
    return isinstance(atom, Constant | FunctionFacts | Bound | ClassFacts) or (
        isinstance(atom, Box) and atom.kind == "partial"
    )


# -- variables and definitions ----------------------------------------------------------------------------------------
def remove_variables(function: ast.FunctionDef) -> None:
    """Assignments to variables of a function that are never read."""
    while True:
        nodes = list(ast.walk(function))
        read = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)}
        read |= {name for n in nodes if isinstance(n, ast.Nonlocal | ast.Global) for name in n.names}
        read |= {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
        remover = Variables(read)
        remover.visit(function)
        if not remover.found:
            return


class Variables(ast.NodeTransformer):
    def __init__(self, read: set[str]):
        self.read, self.found = read, False

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body",):
            if isinstance(getattr(node, name, None), list) and not getattr(node, name) and isinstance(node, ast.stmt):
                setattr(node, name, [ast.Pass()])
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        if len(node.targets) != 1:
            return node
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts))
            kept = [(t, v) for t, v in pairs if not self._unread(t, v)]
            if len(kept) == len(pairs):
                return node
            self.found = True
            if not kept:
                return None
            single = len(kept) == 1
            node.targets = [kept[0][0] if single else ast.Tuple([t for t, _ in kept], ast.Store())]
            node.value = kept[0][1] if single else ast.Tuple([v for _, v in kept], ast.Load())
            return node
        if self._unread(target, value):
            self.found = True
            return None
        if isinstance(target, ast.Name) and target.id not in self.read:  # the value does something
            self.found = True
            return ast.copy_location(ast.Expr(value), node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        unread = node.value is None or self._unread(node.target, node.value)
        if isinstance(node.target, ast.Name) and unread:
            self.found = True
            return None
        return node

    def _unread(self, target: ast.expr, value: ast.expr) -> bool:
        return isinstance(target, ast.Name) and target.id not in self.read and is_pure(value)


def remove_definitions(tree: ast.Module) -> None:
    """Top-level definitions and imports that nothing which runs refers to."""
    annotations = {id(n) for a in all_annotations(tree) for n in ast.walk(a)}

    def uses(node: ast.AST) -> set[str]:
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and id(n) not in annotations}

    named: dict[str, list[ast.stmt]] = {}
    queue: list[str] = []
    for node in tree.body:
        names = bound_names(node)
        for name in names:
            named.setdefault(name, []).append(node)
        if names is not None and not names:
            queue += uses(node)
    kept: set[int] = set()
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in named.get(name, []):
            if id(node) not in kept and not isinstance(node, ast.Import | ast.ImportFrom):
                kept.add(id(node))
                queue += uses(node)
    body: list[ast.stmt] = []
    texts = {word for a in all_annotations(tree) for n in ast.walk(a) if isinstance(n, ast.Name) for word in [n.id]}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            wanted = seen | texts
            node.names = [
                a for a in node.names if (a.asname or a.name.partition(".")[0]) in wanted or a.name == "annotations"
            ]
            if node.names:
                body.append(node)
        elif not bound_names(node) or id(node) in kept:
            body.append(node)
    tree.body = body


def bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)]


def all_annotations(tree: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
    return found
