"""Config to text that means the same again: a Python expression for the exporter, overrides for a shell.

Invariants: `eval` of an expression (with its imports) builds what `build` builds; floats round-trip through `repr`;
an override parsed by Hydra's grammar gives back the value it was made from.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from golf.config.static import NotFound, locate, resolve
from golf.errors import UserError

_RESERVED = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
_LINE = 100
_PLAIN_TEXT = re.compile(r"[A-Za-z_/.\-%+@][A-Za-z0-9_/.\-%+@]*")
_TYPED_TEXT = re.compile(r"(?i)null|true|false|nan|inf|[+-]?(inf|nan)|[+-]?[0-9._]+(e[+-]?[0-9_]+)?")
Imports = set[tuple[str, str]]


def to_expression(node: Any) -> tuple[str, Imports]:
    """(source, imports) of a resolved node: constructor calls with keywords; imports are (module, name) pairs.

    `_partial_` becomes `partial(…)` with ("functools", "partial"); golf targets are named where they are defined.
    """
    imports: Imports = set()
    source = _expression(node, imports, indent=0)
    owners: dict[str, str] = {}
    for module, name in sorted(imports):
        if owners.setdefault(name, module) != module:
            raise UserError(
                f"{name} is defined in {owners[name]} and in {module}: rename one, so one file can hold both"
            )
    return source, imports


def _expression(value: Any, imports: Imports, indent: int) -> str:
    if isinstance(value, Mapping):
        return _call(value, imports, indent) if "_target_" in value else _mapping(value, imports, indent)
    if isinstance(value, list | tuple):
        return _wrap("[", [_expression(item, imports, indent + 4) for item in value], "]", indent)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    raise UserError(f"a config value of type {type(value).__name__} has no Python expression; use plain YAML values")


def _text(value: str) -> str:
    """A Python string literal with double quotes where that needs no escaping."""
    source = repr(value)
    if source.startswith("'") and '"' not in source and "\\'" not in source:
        return f'"{source[1:-1]}"'
    return source


def _mapping(value: Mapping[str, Any], imports: Imports, indent: int) -> str:
    items = [f"{_expression(k, imports, 0)}: {_expression(v, imports, indent + 4)}" for k, v in value.items()]
    return _wrap("{", items, "}", indent)


def _call(node: Mapping[str, Any], imports: Imports, indent: int) -> str:
    name = _import(str(node["_target_"]), imports)
    arguments = [_expression(item, imports, indent + 4) for item in node.get("_args_", [])]
    arguments += [f"{k}={_expression(v, imports, indent + 4)}" for k, v in node.items() if k not in _RESERVED]
    if node.get("_partial_"):
        imports.add(("functools", "partial"))
        return _wrap("partial(", [name, *arguments], ")", indent)
    return _wrap(f"{name}(", arguments, ")", indent)


def _import(target: str, imports: Imports) -> str:
    """Adds the import of a target; returns the name that the expression uses (`Class.method` keeps its dots)."""
    try:
        if target.startswith("golf."):
            definition = resolve(target)
            module, rest = definition.module, definition.name.split(".")
        else:
            module, _, _, rest = locate(target)
    except NotFound as error:
        raise UserError(f"{target}: {error}") from error
    if not rest or not rest[0]:
        raise UserError(f"{target} names a module; a _target_ names a class or a function in it")
    if module != "builtins":
        imports.add((module, rest[0]))
    return ".".join(rest)


def _wrap(opening: str, items: list[str], closing: str, indent: int) -> str:
    line = opening + ", ".join(items) + closing
    if len(line) + indent <= _LINE and "\n" not in line:
        return line
    pad = " " * (indent + 4)
    return opening + "\n" + "".join(f"{pad}{item},\n" for item in items) + " " * indent + closing


def to_value(value: Any) -> str:
    """A value in Hydra's override grammar; text is quoted as soon as the grammar would read it otherwise."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(k)}:{to_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(to_value(item) for item in value) + "]"
    return _quoted(str(value))


def _key(key: Any) -> str:
    """A key of a mapping: the grammar has backslashes here but no quotes, and reads 1 and true as they look."""
    if not isinstance(key, str):
        return to_value(key)
    if (
        not re.fullmatch(r"[\w/\-+.$%*@?|\\()\[\]{}:=, ]+", key, re.ASCII)
        or _TYPED_TEXT.fullmatch(key)
        or key != key.strip()
    ):
        raise UserError(
            f"{key!r} cannot be a key on the command line: Hydra's grammar has no way to write it; use a YAML file"
        )
    return re.sub(r"([\\()\[\]{}:=, ])", r"\\\1", key)


def _quoted(text: str) -> str:
    if _PLAIN_TEXT.fullmatch(text) and not _TYPED_TEXT.fullmatch(text):
        return text
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # backslashes count only where they precede a quote
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def to_override(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar, for any resolved value: `run='runs/lr=0.1,wd=0.2'`."""
    return f"{key}={to_value(value)}"


def to_shell(overrides: Iterable[str] | Mapping[str, Any]) -> str:
    """One shell line of overrides; a mapping's values are quoted for Hydra first, overrides are kept as they are."""
    if isinstance(overrides, Mapping):
        overrides = [to_override(key, value) for key, value in overrides.items()]
    return " ".join(shlex.quote(override) for override in overrides)
