"""Parameters and fields that nothing reads: they go together with their arguments, where every call is known.

Invariant: an argument is dropped only if evaluating it does nothing, and from all functions that a call may reach, or
from none.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.submission.effects import Effects
from golf.submission.interpret import Interpreter
from golf.submission.reads import Reads
from golf.submission.values import Bound, Box, ClassFacts, FunctionFacts
from golf.submission.walk import walk

Target = tuple[Any, str]  # a function and its parameter, or a record and its field


def remove_parameters(tree: ast.Module, facts: Interpreter, attributes: Reads) -> None:
    nodes = list(walk(tree))
    present = set(map(id, nodes))
    dead = unread_parameters(facts, present) | unread_fields(facts, present, attributes)
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    uses = [(node, targets_of(node, facts)) for node in calls]
    effects = Effects(facts)
    while True:
        before = len(dead)
        for _, targets in uses:
            for argument, wanted in targets:
                keeps = argument is not None and not effects.pure(argument)
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
        if facts.hooked and function.name == "forward" and function.owner is not None:
            continue
        body = ast.Module(function.node.body, [])
        used = {node.id for node in walk(body) if isinstance(node, ast.Name)}
        used |= {name for node in walk(body) if isinstance(node, ast.Nonlocal) for name in node.names}
        names = facts.parameter_names(function)[1 if function.owner is not None else 0 :]
        found |= {(function, name) for name in names if name not in used}
    return found


def unread_fields(facts: Interpreter, present: set[int], attributes: Reads) -> set[Target]:
    found: set[Target] = set()
    for record in facts.classes.values():
        lineage = record.lineage()
        whole = any(item.structural or item.lost for item in facts.classes.values() if record in item.lineage())
        if id(record.node) in present and record.is_record and not whole and record.instantiated and len(lineage) == 1:
            found |= {(record, name) for name, _ in record.fields if not attributes.has(facts, record, name)}
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
    unsure = partial is None and None in facts.calls.get(id(node), ()) and bool(callees)
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
        names = names_behind_stars(node, facts)
        blocked = every if unsure else {t for t in every - explicit if names is None or t[1] in names}
        found = [(ast.Yield(), blocked | (wanted if unsure else set())) for _, wanted in [(None, set[Target]())]] + [
            (argument, wanted) for argument, wanted in found if not (wanted & blocked)
        ]
        if spread:  # positions behind a star are not known
            found = [(a, w) for a, w in found if a is not None]
    return found


def names_behind_stars(node: ast.Call, facts: Interpreter) -> set[str] | None:
    """Names that a call's **arguments hold; None where that, or what *arguments are, is not known."""
    found: set[str] = set()
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        return None
    for keyword in node.keywords:
        for atom in facts.values.get(id(keyword.value), frozenset({None})) if keyword.arg is None else ():
            if not isinstance(atom, Box) or not atom.exact or atom.lost:
                return None
            found |= set(map(str, atom.items))
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
