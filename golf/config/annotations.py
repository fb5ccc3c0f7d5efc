"""Does a configured value fit a type annotation? Decided from the annotation's source, without importing anything.

Values are what a resolved config holds: None, bool, int, float, str, list, dict; a dict with `_target_` is a *node*
that will be built, and fits wherever an object may stand. Rules: bool is not int; int fits float; a string fits Path;
`Literal` needs equality of value and type; an annotation that cannot be understood accepts anything.
"""

from __future__ import annotations

import ast
from typing import Any

from golf.config.static import Source, dotted_name, lookup

_ANYTHING = {"Any", "object", "TypeVar", "Self"}
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "set", "Set", "frozenset", "tuple", "Tuple", "Iterator"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping", "OrderedDict"}
_PATHS = {"Path", "PathLike", "PurePath", "_PATH"}
_OBJECTS = {"Callable", "type", "Type"}
_WRAPPERS = {"Annotated", "Final", "InitVar", "Required", "NotRequired", "ClassVar"}
_MAX_DEPTH = 20


def is_node(value: Any) -> bool:
    """True for a config node that `build` turns into an object."""
    return isinstance(value, dict) and "_target_" in value


def fits(value: Any, annotation: ast.expr | None, scope: Source | None, depth: int = 0) -> bool:
    """Whether `value` may be given to a parameter annotated so, the annotation's names being those of `scope`."""
    if annotation is None or is_node(value) or depth > _MAX_DEPTH or is_late(value):
        return True
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            parsed = _parse(annotation.value)
            return parsed is None or fits(value, parsed, scope, depth + 1)
        return value is None if annotation.value is None else True
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return fits(value, annotation.left, scope, depth + 1) or fits(value, annotation.right, scope, depth + 1)
    if isinstance(annotation, ast.Subscript):
        return _fits_subscript(value, annotation, scope, depth)
    name = dotted_name(annotation)
    return True if name is None else _fits_name(value, name, scope, depth)


def is_late(value: Any) -> bool:
    """A text that is not resolved yet (`${hydra:…}` outside a job, a reference to a missing value): any type."""
    return isinstance(value, str) and "${" in value


def literals(annotation: ast.expr | None, scope: Source | None, depth: int = 0) -> list[Any]:
    """Values of every `Literal` in an annotation (through unions and aliases), for messages."""
    if annotation is None or depth > _MAX_DEPTH:
        return []
    if isinstance(annotation, ast.BinOp):
        return literals(annotation.left, scope, depth + 1) + literals(annotation.right, scope, depth + 1)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return literals(_parse(annotation.value), scope, depth + 1)
    if isinstance(annotation, ast.Subscript):
        head = _last(annotation.value)
        if head == "Literal":
            return [item.value for item in _items(annotation) if isinstance(item, ast.Constant)]
        if head in {"Optional", "Union"} | _WRAPPERS:
            return [value for item in _items(annotation) for value in literals(item, scope, depth + 1)]
        return []
    name = dotted_name(annotation)
    found = lookup(scope, name) if name and scope else None
    if found is not None and isinstance(found.node, ast.expr):
        return literals(found.node, found.source, depth + 1)
    return []


def describe(annotation: ast.expr) -> str:
    """An annotation as people write it today: `int | None`, without module paths and quotes."""
    if isinstance(annotation, ast.Constant):
        return annotation.value if isinstance(annotation.value, str) else repr(annotation.value)
    if isinstance(annotation, ast.BinOp):
        return f"{describe(annotation.left)} | {describe(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        head, items = _last(annotation.value), [describe(item) for item in _items(annotation)]
        if head == "Literal":
            return " | ".join(ast.unparse(item) for item in _items(annotation))
        if head in {"Optional", "Union"}:
            return " | ".join([*items, "None"] if head == "Optional" else items)
        return f"{head}[{', '.join(items)}]" if head not in _WRAPPERS else items[0]
    name = _last(annotation)
    return "None" if name == "NoneType" else name or ast.unparse(annotation)


def _parse(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _last(node: ast.expr) -> str:
    return (dotted_name(node) or "").split(".")[-1]


def _items(annotation: ast.Subscript) -> list[ast.expr]:
    return list(annotation.slice.elts) if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def _fits_subscript(value: Any, annotation: ast.Subscript, scope: Source | None, depth: int) -> bool:
    head, items = _last(annotation.value), _items(annotation)
    if head == "Literal":
        options = [item.value for item in items if isinstance(item, ast.Constant)]
        return any(value == option and type(value) is type(option) for option in options)
    if head == "Union":
        return any(fits(value, item, scope, depth + 1) for item in items)
    if head == "Optional":
        return value is None or fits(value, items[0], scope, depth + 1)
    if head in _WRAPPERS:
        return fits(value, items[0], scope, depth + 1)
    if head in {"tuple", "Tuple"}:
        return _fits_tuple(value, items, scope, depth)
    if head in _LISTS:
        return isinstance(value, list) and all(fits(item, items[0], scope, depth + 1) for item in value)
    if head in _DICTS:
        inner = items[1] if len(items) > 1 else None
        return isinstance(value, dict) and all(fits(item, inner, scope, depth + 1) for item in value.values())
    return fits(value, annotation.value, scope, depth + 1)


def _fits_tuple(value: Any, items: list[ast.expr], scope: Source | None, depth: int) -> bool:
    if not isinstance(value, list):
        return False
    if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is Ellipsis:
        return all(fits(item, items[0], scope, depth + 1) for item in value)
    return len(value) == len(items) and all(fits(v, item, scope, depth + 1) for v, item in zip(value, items))


def _fits_name(value: Any, name: str, scope: Source | None, depth: int) -> bool:
    last = name.split(".")[-1]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    simple = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": number,
        "Number": number,
        "Real": number,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
        "bytes": isinstance(value, str),
        "None": value is None,
        "NoneType": value is None,
        "timedelta": False,
    }
    if last in simple and ("." not in name or last in {"NoneType", "timedelta"}):
        return simple[last]
    if last in _ANYTHING:
        return True
    if last in _LISTS:
        return isinstance(value, list)
    if last in _DICTS:
        return isinstance(value, dict)
    if last in _PATHS:
        return isinstance(value, str)
    if last in _OBJECTS:
        return False
    return _fits_defined(value, name, scope, depth)


def _fits_defined(value: Any, name: str, scope: Source | None, depth: int) -> bool:
    """A name defined somewhere: an alias is followed; a class of ours wants a node; anything else is accepted."""
    found = lookup(scope, name) if scope else None
    if found is None or found.node is None or found.source is None:
        return True
    if isinstance(found.node, ast.ClassDef):
        bases = {_last(base) for base in found.node.bases}
        if bases & {"Enum", "StrEnum", "IntEnum", "Flag"}:
            return isinstance(value, str | int)
        if "TypedDict" in bases:
            return isinstance(value, dict)
        if "NamedTuple" in bases:
            return isinstance(value, list)
        return found.source.third_party
    if isinstance(found.node, ast.Call):  # NewType, TypeVar
        return True
    if isinstance(found.node, ast.expr):
        return fits(value, found.node, found.source, depth + 1)
    return True
