"""Defaults that no call leaves to be taken: of parameters and of fields of records.

Invariant: every call is known, and gives what had the default; whoever looks at a signature itself keeps all of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from golf.submission.interpret import Interpreter
from golf.submission.pure import is_pure
from golf.submission.records import fields_of, is_of_class
from golf.submission.values import ClassFacts, FunctionFacts
from golf.submission.walk import walk

LOOKING = {"__defaults__", "__kwdefaults__", "signature", "getfullargspec", "_field_defaults", "__dataclass_fields__"}


def remove_defaults(tree: ast.Module, facts: Interpreter) -> None:
    """Edit a program in place."""
    nodes = list(walk(tree))
    if any(isinstance(n, ast.Attribute | ast.Name) and name_of(n) in LOOKING for n in nodes):
        return
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    new = {name_of(node.func) for node in calls if id(node) not in facts.values}  # of which nothing is known yet
    present, known = set(map(id, nodes)), {id(node): node for node in calls}
    elsewhere = {atom for box in facts.boxes.values() for atom in box.function}  # called by a partial
    elsewhere |= {function for key, found in facts.calls.items() if key not in known for function, _ in found - {None}}
    for function in facts.functions.values():
        names = {function.name, *([function.owner.name] if function.owner is not None else [])}
        if id(function.node) in present and is_known(function, facts) and function not in elsewhere and not names & new:
            without_defaults(function, [c for c in calls if function in callees(facts, c)], facts)
    read = {
        (atom, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute)
        for atom in facts.values.get(id(node.value), ())
        if isinstance(atom, ClassFacts)
    }
    for record in facts.classes.values():
        seen = id(record.node) in present and record not in elsewhere and record.name not in new
        if seen and record.is_record and not (record.lost or record.structural or has_heirs(record, facts)):
            made = [call for call in calls if record in facts.records.get(id(call), ()) and not replaces(call)]
            without_field_defaults(record, made, {name for owner, name in read if owner is record} | facts.deleted)


def name_of(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def callees(facts: Interpreter, call: ast.Call) -> set[FunctionFacts]:
    return {entry[0] for entry in facts.calls.get(id(call), ()) if entry is not None}


def is_known(function: FunctionFacts, facts: Interpreter) -> bool:
    """Whether a function is only called where that can be seen."""
    unseen = function.lost or function in facts.spread or function in facts.answering
    if function.owner is not None and function.owner.foreign_bases() and function.name == "forward":  # torch calls it
        unseen |= any(item.lost and function.owner in item.lineage() for item in facts.classes.values())
    return isinstance(function.node, ast.FunctionDef) and function.live and function.kind == "plain" and not unseen


def has_heirs(record: ClassFacts, facts: Interpreter) -> bool:
    return len(record.lineage()) > 1 or any(
        record in item.lineage() for item in facts.classes.values() if item is not record
    )


def replaces(call: ast.Call) -> bool:
    """`replace(record, …)` and `record._replace(…)`."""
    return name_of(call.func) in ("replace", "_replace")


def always_given(calls: Iterable[tuple[ast.Call, int]], names: list[str], only_named: Iterable[str] = ()) -> set[str]:
    """The parameters that every call gives; `calls` come with the place of the first argument among them."""
    found = {*names, *only_named}
    for call, shift in calls:
        if any(isinstance(item, ast.Starred) for item in call.args) or any(k.arg is None for k in call.keywords):
            return set()
        found &= {*names[shift : shift + len(call.args)], *(str(keyword.arg) for keyword in call.keywords)}
    return found


def without_defaults(function: FunctionFacts, calls: list[ast.Call], facts: Interpreter) -> None:
    arguments = function.node.args
    names = [parameter.arg for parameter in function.parameters]
    only_named = [parameter.arg for parameter in arguments.kwonlyargs]
    sites = [(call, int(bound)) for call in calls for f, bound in facts.calls[id(call)] - {None} if f is function]
    given = always_given(sites, names, only_named) if sites else set[str]()
    while arguments.defaults and is_pure(arguments.defaults[0]) and names[-len(arguments.defaults)] in given:
        del arguments.defaults[0]
    for index, (name, default) in enumerate(zip(only_named, arguments.kw_defaults)):
        if name in given and is_pure(default):
            arguments.kw_defaults[index] = None


def without_field_defaults(record: ClassFacts, calls: list[ast.Call], read: set[str]) -> None:
    fields = fields_of(record.node)
    given = always_given([(call, 0) for call in calls], list(fields)) if calls else set[str]()
    for item in record.node.body:
        if not isinstance(item, ast.AnnAssign) or is_of_class(item) or not isinstance(item.target, ast.Name):
            continue
        if item.target.id not in given - read or not is_pure(item.value):
            return
        item.value = None
