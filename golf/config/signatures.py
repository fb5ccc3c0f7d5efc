"""What a `_target_` accepts: parameters of functions, classes and dataclasses, read from source or from a table.

golf's own modules and the user's are read with `ast`; lightning's come from `signatures.json` (written by
`golf.config.signature_table`). Invariant: a signature never claims more than was read: what is unknown is `None`.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from golf.config.static import Definition, NotFound, Source, dotted_name, lookup, resolve

TABLE = Path(__file__).with_name("signatures.json")
_ALIASES = {"pytorch_lightning.": "lightning.pytorch."}
_BARE_BASES = {"object", "ABC", "Protocol", "Generic", "nn.Module", "torch.nn.Module", "Module"}


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter; `scope` is the module in which the names of its annotation have a meaning."""

    name: str
    annotation: ast.expr | None
    required: bool
    default: ast.expr | None = None
    scope: Source | None = None


@dataclass(frozen=True, eq=False)
class Signature:
    """Parameters in order; `open_keys` when any further keyword is accepted."""

    target: str
    parameters: tuple[Parameter, ...]
    open_keys: bool = False

    @property
    def names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]


def signature_of(target: str) -> Signature | None:
    """Signature of a dotted name; None if it exists but cannot be read; raises NotFound if it does not exist."""
    for prefix, real in _ALIASES.items():
        if target.startswith(prefix):
            target = real + target.removeprefix(prefix)
    tabled = _from_table(target)
    if tabled is not None:
        return tabled
    top = target.split(".")[0]
    if top != "golf" and _installed(top):
        return None
    definition = resolve(target)
    if not definition.name:
        names = definition.source.public_names() if definition.source else []
        raise NotFound(definition.module, "", names)
    return _read(target, definition)


def accepts(target: str, name: str) -> bool:
    """Whether the target of a node takes a parameter of this name, as far as its signature can be read."""
    try:
        signature = signature_of(target)
    except (NotFound, ValueError):
        return False
    return signature is not None and name in signature.names


def refuses(target: str, name: str) -> bool:
    """Whether the target of a node has no parameter of this name; what cannot be read refuses nothing."""
    try:
        signature = signature_of(target)
    except (NotFound, ValueError):
        return False
    return signature is not None and not signature.open_keys and name not in signature.names


def _installed(top: str) -> bool:
    """True for third-party and standard-library packages, whose signatures are not read; raises NotFound."""
    if top == "builtins":
        return True
    definition = resolve(top)
    return definition.source is None or definition.source.third_party


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, Any]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))["targets"] if TABLE.is_file() else {}


def _from_table(target: str) -> Signature | None:
    package = next((name for name in sorted(_packages(), key=len, reverse=True) if target.startswith(f"{name}.")), None)
    if package is None:
        return None
    name = target.rpartition(".")[2]
    deep = package != "lightning.pytorch"  # also under the file it is defined in: callbacks.timer.Timer
    entry = table().get(f"{package}.{name}" if deep else target)
    if entry is None:
        if deep and target == f"{package}.{name}" and name[:1].isupper():
            raise NotFound(package, name, [key.rpartition(".")[2] for key in table() if key.startswith(f"{package}.")])
        return None
    parameters = tuple(
        Parameter(
            name=item["name"],
            annotation=ast.parse(item["annotation"], mode="eval").body if item.get("annotation") else None,
            required=item["required"],
            default=ast.parse(item["default"], mode="eval").body if "default" in item else None,
        )
        for item in entry["parameters"]
    )
    return Signature(target, parameters, entry["open_keys"])


def _packages() -> set[str]:
    return {name.rpartition(".")[0] for name in table()}


def _read(target: str, definition: Definition) -> Signature | None:
    node, source = definition.node, definition.source
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        static = any(dotted_name(d) == "staticmethod" for d in node.decorator_list)
        return _of_function(target, node, source, drop_first=definition.owner is not None and not static)
    if isinstance(node, ast.ClassDef) and source is not None:
        return _of_class(target, node, source)
    return None


def _of_function(
    target: str, node: ast.FunctionDef | ast.AsyncFunctionDef, source: Source | None, drop_first: bool
) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, defaults))[1 if drop_first else 0 :]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults))
    parameters = tuple(Parameter(a.arg, a.annotation, d is None, d, source) for a, d in pairs)
    return Signature(target, parameters, arguments.kwarg is not None)


def _of_class(target: str, node: ast.ClassDef, source: Source, depth: int = 0) -> Signature | None:
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    for name in ("__init__", "__new__"):
        if name in methods:
            return _of_function(target, methods[name], source, drop_first=True)
    bases = [dotted_name(base.value if isinstance(base, ast.Subscript) else base) or "?" for base in node.bases]
    if _is_dataclass(node) or "NamedTuple" in {base.split(".")[-1] for base in bases}:
        return Signature(target, tuple(_fields(node, source).values()))
    for base in bases:
        if base in _BARE_BASES or base.split(".")[-1] in {"ABC", "Protocol", "Generic"}:
            continue
        found = lookup(source, base)
        if depth > 8 or found is None:
            return None
        if found.source is not None and isinstance(found.node, ast.ClassDef) and not found.source.third_party:
            inherited = _of_class(target, found.node, found.source, depth + 1)
            if inherited is None or inherited.parameters or inherited.open_keys:
                return inherited
            continue
        return _inherited_from_table(target, source, base)
    return Signature(target, ())


def _inherited_from_table(target: str, source: Source, base: str) -> Signature | None:
    """A base class in third-party code: known if the table lists it under the name it was imported by."""
    head, _, tail = base.partition(".")
    imported = source.bindings.get(head)
    if not (isinstance(imported, ast.Constant) and imported.kind == "import"):
        return None
    try:
        found = _from_table(f"{imported.value}.{tail}" if tail else str(imported.value))
    except NotFound:
        return None
    return Signature(target, found.parameters, found.open_keys) if found else None


def _is_dataclass(node: ast.ClassDef) -> bool:
    names = [dotted_name(d.func if isinstance(d, ast.Call) else d) or "" for d in node.decorator_list]
    return any(name.split(".")[-1] == "dataclass" for name in names)


def _fields(node: ast.ClassDef, source: Source, depth: int = 0) -> dict[str, Parameter]:
    """Constructor fields of a dataclass or NamedTuple, inherited ones first, as in the generated `__init__`."""
    fields: dict[str, Parameter] = {}
    for base in reversed(node.bases):
        found = lookup(source, dotted_name(base) or "")
        if found and found.source and isinstance(found.node, ast.ClassDef) and _is_dataclass(found.node) and depth < 8:
            fields.update(_fields(found.node, found.source, depth + 1))
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            parameter = _field(item, source)
            if parameter is not None:
                fields[parameter.name] = parameter
    return fields


def _field(item: ast.AnnAssign, source: Source) -> Parameter | None:
    assert isinstance(item.target, ast.Name)
    annotation = item.annotation
    head = dotted_name(annotation.value if isinstance(annotation, ast.Subscript) else annotation) or ""
    if head.split(".")[-1] in {"ClassVar", "KW_ONLY"}:
        return None
    default = item.value
    required = default is None
    if isinstance(default, ast.Call) and (dotted_name(default.func) or "").split(".")[-1] == "field":
        keywords = {keyword.arg: keyword.value for keyword in default.keywords}
        init = keywords.get("init")
        if isinstance(init, ast.Constant) and init.value is False:
            return None
        required = not ({"default", "default_factory"} & set(keywords))
        default = keywords.get("default")
    return Parameter(item.target.id, annotation, required, default, source)
