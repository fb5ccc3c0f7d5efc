"""Records that never leave the function they are made in: their fields are variables as well.

`batch = Batch(a, b)` of which only `batch.inputs` and `batch.targets` are read becomes `inputs = a` and `targets = b`.
Inlining leaves such records behind. Invariant: everything is evaluated as often as before and in the same order.
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

from golf.submission.unused import bound_names
from golf.submission.walk import walk, within_trials

CONSTRUCTORS = ("__init__", "__new__", "__post_init__")


def split_records(tree: ast.Module) -> None:
    """Edit every function of a program in place."""
    records = {node.name: fields_of(node) for node in tree.body if isinstance(node, ast.ClassDef)}
    top = {name for node in tree.body for name in bound_names(node)}
    rebound = {n.id for n in walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    records = {name: fields for name, fields in records.items() if fields and name not in rebound}
    functions = [node for node in walk(tree) if isinstance(node, ast.FunctionDef)] if records else []
    for function in functions:
        Records(function, records, top).run()


def fields_of(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """The fields of a dataclass or NamedTuple that is made as it stands, with their defaults; {} of anything else."""
    if node.keywords:
        return {}
    marks = [ast.unparse(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list]
    bases = [ast.unparse(item) for item in node.bases]
    if (marks, bases) not in ((["dataclass"], []), ([], ["NamedTuple"])):
        return {}
    if any(isinstance(item, ast.FunctionDef) and item.name in CONSTRUCTORS for item in node.body):
        return {}
    return {
        item.target.id: item.value
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not is_of_class(item)
    }


def is_of_class(item: ast.AnnAssign) -> bool:
    """Whether an annotated name belongs to the class, and not to its objects."""
    return "ClassVar" in ast.unparse(item.annotation)


class Records:
    """The records that one function makes."""

    def __init__(self, function: ast.FunctionDef, records: dict[str, dict[str, ast.expr | None]], top: set[str]):
        self.function, self.records, self.tried = function, records, within_trials(function)
        self.taken = {n.id for n in walk(function) if isinstance(n, ast.Name)} | top
        self.taken |= {n.arg for n in walk(function) if isinstance(n, ast.arg)} | set(dir(builtins))
        self.taken |= {n.name for n in walk(function) if isinstance(n, ast.FunctionDef | ast.ClassDef)}

    def run(self) -> None:
        for owner in [n for n in walk(self.function) if isinstance(n, ast.stmt | ast.ExceptHandler)]:
            if isinstance(owner, ast.FunctionDef | ast.ClassDef) and owner is not self.function:
                continue  # a function within has its own turn, with its own variables
            for name in ("body", "orelse", "finalbody"):
                block = getattr(owner, name, None)
                if isinstance(block, list):
                    setattr(owner, name, [part for item in block for part in self.split(item)])

    def split(self, node: ast.stmt) -> list[ast.stmt]:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=kind)) as call):
                values = self.values(call, self.records.get(kind, {}))
            case _:
                return [node]
        if not values or getattr(node, "commented", False) or id(node) in self.tried:
            return [node]
        if not self.is_only_read(name, set(values)):
            return [node]
        variables = {field: self.new_name(name, field) for field in values}
        FieldsAsVariables(name, variables).visit(self.function)
        return [
            ast.copy_location(ast.Assign([ast.Name(variables[field], ast.Store())], value), node)
            for field, value in values.items()
        ]

    def values(self, call: ast.Call, fields: dict[str, ast.expr | None]) -> dict[str, ast.expr]:
        """The values of all fields in the order in which they are evaluated; {} if they are not known."""
        if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
            return {}
        found = dict(zip(fields, call.args)) | {str(keyword.arg): keyword.value for keyword in call.keywords}
        found |= {name: default for name, default in fields.items() if name not in found and default is not None}
        given = len(call.args) + len(call.keywords)
        if len(found) != len(fields) or not all(isinstance(v, ast.Constant) for v in list(found.values())[given:]):
            return {}
        return found

    def is_only_read(self, name: str, fields: set[str]) -> bool:
        """Whether a variable is assigned once, here, and is nothing but a place to read fields from."""
        nodes = list(walk(self.function))
        names = [n for n in nodes if isinstance(n, ast.Name) and n.id == name]
        reads = [n for n in nodes if isinstance(n, ast.Attribute) and is_field(n, name) and n.attr in fields]
        elsewhere: set[str] = {n.arg for n in nodes if isinstance(n, ast.arg)}
        elsewhere |= {item for n in nodes if isinstance(n, ast.Nonlocal | ast.Global) for item in n.names}
        elsewhere |= {str(n.name) for n in nodes if isinstance(n, ast.ExceptHandler | ast.FunctionDef | ast.ClassDef)}
        within = [n.id for c in nodes if isinstance(c, ast.ClassDef) for n in walk(c) if isinstance(n, ast.Name)]
        return len(names) == len(reads) + 1 and name not in elsewhere | set(within)

    def new_name(self, variable: str, field: str) -> str:
        found = field if field not in self.taken else f"{variable}_{field}"
        while found in self.taken:
            found += "_"
        self.taken.add(found)
        return found


def is_field(node: Any, name: str) -> bool:
    """Whether a node reads a field of a variable."""
    own = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    return own and isinstance(node.value, ast.Name) and node.value.id == name


class FieldsAsVariables(ast.NodeTransformer):
    """Writes a variable where a field of a record is read."""

    def __init__(self, record: str, variables: dict[str, str]):
        self.record, self.variables = record, variables

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if not is_field(node, self.record):
            return self.generic_visit(node)
        return ast.copy_location(ast.Name(self.variables[node.attr], ast.Load()), node)
