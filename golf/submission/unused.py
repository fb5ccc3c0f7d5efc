"""What nothing reads any more: parameters, fields, attributes, variables, definitions and imports.

A parameter goes together with its argument at every call, so all calls must be known and the argument must do nothing.
An attribute goes where its name is read nowhere in the program. In a torch module only plain values go, because setting
a submodule or a parameter registers it.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.effects import Effects
from golf.submission.interpret import Interpreter
from golf.submission.known import is_dtype
from golf.submission.parameters import remove_parameters
from golf.submission.pure import is_pure, may_raise, waits_for_expressions
from golf.submission.reads import Reads, attribute_reads
from golf.submission.values import Bound, Box, ClassFacts, Constant, Foreign, FunctionFacts, Instance, foreign_has
from golf.submission.walk import walk


def remove_unused(tree: ast.Module, facts: Interpreter) -> None:
    """One sweep."""
    attributes = attribute_reads(tree, facts)
    remove_parameters(tree, facts, attributes)
    Attributes(facts, attributes).visit(tree)
    own = {item.node.name for item in facts.classes.values()}
    for node in [n for n in walk(tree) if isinstance(n, ast.FunctionDef)]:
        remove_variables(node, own)
    remove_definitions(tree)


# -- attributes -------------------------------------------------------------------------------------------------------
class Attributes(ast.NodeTransformer):
    """Takes out `self.x = value` and members of class bodies whose names nothing reads."""

    def __init__(self, facts: Interpreter, attributes: Reads):
        self.facts, self.attributes, self.effects = facts, attributes, Effects(facts)
        self.within: list[ClassFacts] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        facts = self.facts.classes[id(node)]
        self.within.append(facts)
        self.generic_visit(node)
        self.within.pop()
        if not facts.is_record:
            node.body = [item for item in node.body if not self._is_unread_member(item, facts)]
        node.body = [item for item in node.body if not self._is_unread_method(item, facts)] or [ast.Pass()]
        return node

    def _is_unread_method(self, node: ast.stmt, facts: ClassFacts) -> bool:
        if not isinstance(node, ast.FunctionDef) or self.facts.functions[id(node)].live:
            return False
        return self._is_hidden(node.name, facts) or not self.attributes.has(self.facts, facts, node.name)

    def _is_hidden(self, name: str, facts: ClassFacts) -> bool:
        """Whether every class that has objects has another method of the name before this class's."""
        own = facts.methods.get(name)
        heirs = [item for item in self.facts.classes.values() if facts in item.lineage() and item is not facts]
        made = [item for item in [facts, *heirs] if item.instantiated or item.lost]
        return bool(heirs) and all(item.method(name) is not own for item in made)

    def _is_unread_member(self, node: ast.stmt, facts: ClassFacts) -> bool:
        if isinstance(node, ast.AnnAssign) and node.value is None:
            return True
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        if not isinstance(target, ast.Name) or target.id.startswith("__"):
            return False
        if self.attributes.has(self.facts, facts, target.id):
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
        if not self.effects.pure(value) or not is_pure(target.value):
            return False
        if not (isinstance(target.value, ast.Name) and target.value.id == "self" and self.within):
            receivers = self.facts.values.get(id(target.value), frozenset())
            classes = [a.of for a in receivers if isinstance(a, Instance)]
            if not classes or len(classes) != len(receivers):
                return False
        else:
            classes = [c for c in self.facts.classes.values() if self.within[-1] in c.lineage()]
        for facts in classes:
            if self.attributes.has(self.facts, facts, target.attr):
                return False
            if (facts.structural or facts.lost) and target.attr in dict(facts.all_fields()):
                return False
            if facts.foreign_bases() and foreign_has(facts.foreign_bases(), target.attr):
                return False
            if facts.is_module() and not all(map(is_plain, self.facts.values.get(id(value), frozenset({None})))):
                return isinstance(value, ast.Constant)
        return True


def is_plain(atom: Any) -> bool:
    """Whether a torch module takes an attribute for a mere value."""
    if isinstance(atom, Instance):
        return not atom.of.is_module()
    if isinstance(atom, Foreign) and is_dtype(atom):
        return True
    return isinstance(atom, Constant | FunctionFacts | Bound | ClassFacts) or (
        isinstance(atom, Box) and atom.kind == "partial"
    )


# -- variables and definitions ----------------------------------------------------------------------------------------
def remove_variables(function: ast.FunctionDef, own: set[str]) -> None:
    """Assignments to variables of a function that are never read. `own`: classes of the program."""
    while True:
        nodes = list(walk(function))
        read = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)}
        read |= {name for n in nodes if isinstance(n, ast.Nonlocal | ast.Global) for name in n.names}
        read |= {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
        remover = Variables(read, function, own)
        remover.visit(function)
        if not remover.found:
            return


class Variables(ast.NodeTransformer):
    def __init__(self, read: set[str], function: ast.FunctionDef, own: set[str]):
        self.read, self.function, self.own, self.found = read, function, own, False
        self.guarded = 0  # in how many `try` blocks with handlers this is

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        if node is not self.function and node.name not in self.read and not node.decorator_list:
            self.found = True
            return None
        return node

    def visit_Try(self, node: ast.Try) -> Any:
        rest = ast.Try([], node.handlers, node.orelse, node.finalbody)
        waits = waits_for_expressions(node, self.own)
        self.guarded += waits
        inner = ast.With([], node.body)
        self.generic_visit(inner)
        self.guarded -= waits
        self.generic_visit(rest)
        node.body, node.orelse, node.finalbody = inner.body, rest.orelse, rest.finalbody
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
                return self._apart(node, pairs)
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

    def _apart(self, node: ast.Assign, pairs: list[tuple[ast.expr, ast.expr]]) -> Any:
        """`a, b = f(), g()` as two statements where `b` is never read, and no value needs a target's old one."""
        names = {t.id for t, _ in pairs if isinstance(t, ast.Name)}
        needed = {n.id for _, v in pairs for n in walk(v) if isinstance(n, ast.Name)}
        if len(names) < len(pairs) or names <= self.read or names & needed:
            return node
        self.found = True
        parts = [ast.Assign([t], v) if getattr(t, "id", "") in self.read else ast.Expr(v) for t, v in pairs]
        return [ast.copy_location(part, node) for part in parts]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        unread = node.value is None or self._unread(node.target, node.value)
        if isinstance(node.target, ast.Name) and unread:
            self.found = True
            return None
        return node

    def _unread(self, target: ast.expr, value: ast.expr) -> bool:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        unread = all(isinstance(item, ast.Name) and item.id not in self.read for item in names) and is_pure(value)
        return unread and not (self.guarded and may_raise(value))


def remove_definitions(tree: ast.Module) -> None:
    """Top-level definitions and imports that nothing which runs refers to."""
    inside = [n for annotation in all_annotations(tree) for n in walk(annotation)]
    annotations = set(map(id, inside))

    def uses(node: ast.AST) -> set[str]:
        return {n.id for n in walk(node) if isinstance(n, ast.Name) and id(n) not in annotations}

    named: dict[str, list[ast.stmt]] = {}
    queue: list[str] = []
    for node in tree.body:
        names = bound_names(node)
        for name in names:
            named.setdefault(name, []).append(node)
        if not names or changes_something(node):
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
    texts = {n.id for n in inside if isinstance(n, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            wanted = seen | texts
            node.names = [
                a for a in node.names if (a.asname or a.name.partition(".")[0]) in wanted or a.name == "annotations"
            ]
            if node.names:
                body.append(node)
        elif not bound_names(node) or changes_something(node) or id(node) in kept:
            body.append(node)
    tree.body = body


def changes_something(node: ast.stmt) -> bool:
    """Whether an assignment sets an attribute or an item."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    kinds = (ast.Attribute, ast.Subscript)
    return any(isinstance(item, kinds) and isinstance(item.ctx, ast.Store) for t in targets for item in walk(t))


def bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [item.id for target in targets for item in walk(target) if isinstance(item, ast.Name)]


def all_annotations(tree: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for node in walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
    return found
