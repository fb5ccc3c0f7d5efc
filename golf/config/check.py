"""Binds every `_target_` node of a resolved config to its target's signature, and reports all errors at once.

Found without importing any target: unknown targets, unknown and missing keys, values of the wrong type, and options
that nothing would read. Invariant: a config without errors here can be built as far as names and types are concerned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from golf.config.annotations import describe, fits, is_node, literals
from golf.config.code import to_override, to_value
from golf.config.moved import MOVED
from golf.config.nearest import nearest, offer
from golf.config.signatures import Parameter, Signature, signature_of
from golf.config.static import NotFound
from golf.errors import UserError

RESERVED = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})
MISSING = "???"

# Arguments that golf hands over itself when it builds a node of this group (`build(node, model=…)`).
SUPPLIED: dict[str, frozenset[str]] = {
    "optim": frozenset({"model"}),
    "average": frozenset({"model"}),
}

# Plain groups whose keys are handed to this constructor.
IMPLICIT_TARGETS = {"trainer": "lightning.pytorch.Trainer"}


@dataclass
class Findings:
    """Errors (one line each) and notes (what could not be checked, and why)."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.errors += [line for line in other.errors if line not in self.errors]
        self.notes += [line for line in other.notes if line not in self.notes]


def find(config: Mapping[str, Any]) -> Findings:
    """All findings of a resolved config (plain dicts and lists), cross checks included."""
    from golf.config.cross_checks import CROSS_CHECKS

    findings = Findings()
    for path, value in _walk(config, ""):
        if is_node(value):
            _check_node(value, path, findings)
        elif value == MISSING and not any(line.startswith(f"{path} is required") for line in findings.errors):
            findings.errors.append(f"{path} is required; type {path}=<value>")
    for group, target in IMPLICIT_TARGETS.items():
        flags = config.get(group)
        if isinstance(flags, dict) and not is_node(flags):
            _check_implicit(flags, group, target, findings)
    for check_across in CROSS_CHECKS:
        findings.errors += [line for line in check_across(dict(config)) if line not in findings.errors]
    return findings


def check(config: Mapping[str, Any]) -> list[str]:
    """Raises one UserError that lists every error of the config, a line each; returns the notes."""
    findings = find(config)
    if findings.errors:
        raise UserError("\n".join(findings.errors))
    return findings.notes


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value below (and including) a config value, with its path."""
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")


def _check_node(node: dict[str, Any], path: str, findings: Findings) -> None:
    target = node["_target_"]
    if not isinstance(target, str) or "." not in target:
        findings.errors.append(f"{path}._target_={target}: a dotted name is expected, such as golf.models.gpt.GPT")
        return
    try:
        signature = signature_of(target)
    except NotFound as error:
        findings.errors.append(_unknown_target(path, target, error))
        return
    except SyntaxError as error:
        findings.errors.append(f"{path}._target_={target}: {error.filename} line {error.lineno} is not valid Python")
        return
    if signature is None:
        findings.notes.append(f"{path}: the keys of {target} are not checked (its signature cannot be read)")
        return
    _bind(node, path, signature, findings, SUPPLIED.get(path.split(".")[0], frozenset()))


def _unknown_target(path: str, target: str, error: NotFound) -> str:
    place = error.where or "the installed packages and the folders on sys.path"
    if not error.missing:
        return (
            f"{path}._target_={target} names a module; {offer('', error.names)}; type {path}._target_={target}.<name>"
        )
    close = nearest(error.missing, error.names)
    line = f"{path}._target_={target}: {place} has no {error.missing!r}; {offer(error.missing, error.names)}"
    if not error.where:
        return f"{path}._target_={target}: no module {error.missing!r} in {place}; install it or run where it is"
    if not close:
        return line
    tail = target.split(f"{error.where}.{error.missing}", 1)
    fixed = f"{error.where}.{close[0]}{tail[1]}" if len(tail) == 2 else f"{error.where}.{close[0]}"
    return f"{line}; type {path}._target_={fixed}"


def _bind(node: dict[str, Any], path: str, signature: Signature, findings: Findings, supplied: frozenset[str]) -> None:
    """Binds the keys of one node, adding an error for every key that cannot be bound."""
    parameters = {parameter.name: parameter for parameter in signature.parameters}
    positional = node.get("_args_") or []
    filled = set(signature.names[: len(positional)]) if isinstance(positional, list) else set()
    given = {str(key): value for key, value in node.items() if key not in RESERVED}
    for name, value in given.items():
        if name not in parameters:
            if not signature.open_keys and f"{path}.{name}" not in MOVED:  # those have a line of their own
                unset = [key for key in parameters if key not in supplied]
                findings.errors.append(_unknown_key(path, name, value, unset, signature.target))
        elif value == MISSING:
            findings.errors.append(
                f"{path}.{name} is required by {signature.target}; type {_typed(path, parameters[name])}"
            )
        elif not fits(value, parameters[name].annotation, parameters[name].scope):
            findings.errors.append(_wrong_type(path, value, parameters[name]))
    if node.get("_partial_"):
        return
    for name, parameter in parameters.items():
        if parameter.required and name not in given and name not in filled and name not in supplied:
            findings.errors.append(f"{path}.{name} is required by {signature.target}; type +{_typed(path, parameter)}")


def _check_implicit(flags: dict[str, Any], path: str, target: str, findings: Findings) -> None:
    signature = signature_of(target)
    if signature is not None:
        _bind({**flags, "_partial_": True}, path, signature, findings, frozenset())


def _unknown_key(path: str, name: str, value: Any, valid: list[str], target: str) -> str:
    close = nearest(name, valid)
    shown = "" if isinstance(value, dict | list) else f"={to_value(value)}"
    line = f"{path}.{name}{shown}: {target} has no such key; {offer(name, valid)}"
    if close:
        return f"{line}; type {to_override(f'{path}.{close[0]}', value)}"
    return f"{line}; leave it out, or type ~{path}.{name} where a file sets it"


def _typed(path: str, parameter: Parameter) -> str:
    """`path.key=<what it takes>` for a message."""
    options = literals(parameter.annotation, parameter.scope)
    if options:
        return to_override(f"{path}.{parameter.name}", options[0])
    return f"{path}.{parameter.name}=<{_describe(parameter)}>"


def _describe(parameter: Parameter) -> str:
    return describe(parameter.annotation) if parameter.annotation is not None else "value"


def _wrong_type(path: str, value: Any, parameter: Parameter) -> str:
    key = f"{path}.{parameter.name}"
    shown = to_override(key, value)
    options = literals(parameter.annotation, parameter.scope)
    if options:
        close = nearest(value, [str(option) for option in options]) if isinstance(value, str) else []
        allowed = " | ".join(to_value(option) for option in options)
        return f"{shown}: allowed: {allowed}; type {key}={close[0] if close else options[0]}"
    if isinstance(value, float) and value.is_integer() and fits(int(value), parameter.annotation, parameter.scope):
        return f"{shown}: {_describe(parameter)} expected, not a float; type {key}={int(value)}"
    default = parameter.default
    sample = _default_override(key, default) if default is not None else f"{key}=<{_describe(parameter)}>"
    return f"{shown}: {_describe(parameter)} expected, not {_kind(value)}; type {sample}"


def _default_override(key: str, default: Any) -> str:
    try:
        return to_override(key, ast.literal_eval(default))
    except ValueError:
        return f"{key}=<{ast.unparse(default)}>"


def _kind(value: Any) -> str:
    names = {"NoneType": "null", "str": "text", "dict": "a mapping without _target_", "list": "a list"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")
