"""Why overrides do not compose: each is judged by itself against the groups, options and keys that exist.

Called only after Hydra has refused, so that the good case pays nothing. Invariant: at least one line is returned, and
each names the override, what exists instead, and what to type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from golf.config.check import IMPLICIT_TARGETS
from golf.config.code import to_value
from golf.config.cross_checks import MOVED
from golf.config.nearest import nearest, offer
from golf.config.signatures import signature_of
from golf.config.static import NotFound
from golf.config.undeclared import keys_of

if TYPE_CHECKING:
    from golf.config.compose import Composer


@dataclass
class _Case:
    """One diagnosis in progress: overrides believed good so far, and lines for the others."""

    composer: Composer
    lines: list[str] = field(default_factory=list)
    groups: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    good: list[str] = field(default_factory=list)

    @property
    def repository(self) -> Any:
        return self.composer.loader.repository


def diagnose(composer: Composer, overrides: list[str], error: BaseException) -> tuple[list[str], list[str]]:
    """(one line per mistake, overrides without one); Hydra's own words, on one line, where no mistake was recognised."""
    case = _Case(composer)
    for text in overrides:
        _parse(case, text)
    config = _compose_groups(case)
    if config is not None:
        case.good = [override.input_line for override in case.groups]
        for override in case.values:
            before = len(case.lines)
            _check_value(case, config, override)
            if len(case.lines) == before and not _below_broken(case, override.key_or_group):
                case.good.append(override.input_line)
    if not case.lines:
        case.lines.append(_fallback(error))
    return list(dict.fromkeys(case.lines)), case.good


def _parse(case: _Case, text: str) -> None:
    """Sorts one override into groups and values, or explains why it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create(config_loader=case.composer.loader).parse_overrides([text])[0]
    except HydraException as error:
        case.lines.append(_bad_grammar(text, error))
        return
    key = override.key_or_group
    if override.is_sweep_override():
        alternative = "" if case.repository.group_exists(key) else f", or for one list {key}=[{text.split('=', 1)[1]}]"
        case.lines.append(f"{text}: several values need a sweep; type -m {text}{alternative}")
    elif key == "hydra.searchpath" or not case.repository.group_exists(key) or isinstance(override.value(), dict):
        case.values.append(override)
    else:
        _check_group(case, override)


def _bad_grammar(text: str, error: BaseException) -> str:
    key, sign, value = text.partition("=")
    if not sign and not text.startswith("~"):
        return f"{text}: an override is key=value; type {text}=<value>"
    if re.fullmatch(r"[+~]{0,2}[\w./@:$-]+", key):
        return f'{text}: the value needs quotes of Hydra\'s grammar; type "{key}={_quote_all(value)}"'
    return f"{text}: not a valid override ({_first_line(error)}); type key=value"


def _quote_all(value: str) -> str:
    quoted = to_value(value.strip("'\""))
    return quoted if quoted.startswith("'") else f"'{quoted}'"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _check_group(case: _Case, override: Any) -> None:
    """A choice of an option: does the option exist?"""
    from hydra.core.object_type import ObjectType

    group, value = override.key_or_group, override.value()
    choices = value if isinstance(value, list) else [value]
    options = case.repository.get_group_options(group, results_filter=ObjectType.CONFIG)
    options += _options_below(case, group)
    wrong = [str(choice) for choice in choices if choice is not None and str(choice) not in options]
    if override.is_delete() and value in (None, ""):
        wrong = []
    for choice in wrong:
        case.broken.add(group)
        close = nearest(choice, options)
        tail = f"; type {group}={close[0]}" if close else f"; type golf ls {group} for all"
        case.lines.append(f"{group}={choice}: {group} has no option {choice!r}; {offer(choice, options)}{tail}")
    if not wrong:
        case.groups.append(override)


def _options_below(case: _Case, group: str, depth: int = 0) -> list[str]:
    """Options in subfolders, as `folder/option` (experiment=record/…)."""
    from hydra.core.object_type import ObjectType

    found: list[str] = []
    if depth < 3:
        for name in case.repository.get_group_options(group, results_filter=ObjectType.GROUP):
            below = case.repository.get_group_options(f"{group}/{name}", results_filter=ObjectType.CONFIG)
            found += [f"{name}/{option}" for option in [*below, *_options_below(case, f"{group}/{name}", depth + 1)]]
    return found


def _compose_groups(case: _Case) -> Any:
    """The config with the valid options chosen and no value overridden; None if that fails too."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    searchpath = [v.input_line for v in case.values if v.key_or_group == "hydra.searchpath"]
    try:
        return case.composer.load([*searchpath, *(override.input_line for override in case.groups)])
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        if case.groups:
            _blame_group(case, error)
        elif not case.lines:
            case.lines.append(_fallback(error))
        return None


def _blame_group(case: _Case, error: BaseException) -> None:
    """Options that exist but do not compose: named one by one if they fail alone, else together."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    before = len(case.lines)
    for override in case.groups:
        try:
            case.composer.load([override.input_line])
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as alone:
            group = override.key_or_group
            if "No match in the defaults list" in str(alone) or "multiple values" in str(alone):
                case.lines.append(_not_chosen(case, override))
            else:
                case.lines.append(f"{override.input_line}: {_fallback(alone)}")
    if len(case.lines) == before:
        case.lines.append(_fallback(error))


def _not_chosen(case: _Case, override: Any) -> str:
    """A group that exists, but that nothing in this script's configuration chooses."""
    group, text = override.key_or_group, override.input_line
    if "/" in group:
        return f"{text}: nothing in this configuration chooses {group}; type +{group}={override.value()}"
    chosen = [name for name in _chosen(case.composer.load([])) if "/" not in name]
    return f"{text}: {case.composer.name}.py has no group {group}; it takes {', '.join(chosen)}; leave {group} out"


def _chosen(config: Any) -> list[str]:
    """Groups that the defaults of a composed config choose from."""
    return [str(name) for name in config.hydra.runtime.choices if not str(name).startswith("hydra")]


def _check_value(case: _Case, config: Any, override: Any) -> None:
    """A key: does it exist (or, with +, not yet)?"""
    key = override.key_or_group
    if _below_broken(case, key):
        return
    text = override.input_line
    if key in MOVED:
        case.lines.append(MOVED[key].line(key, override.value()))
        return
    found, parent, missing = _walk(config, key)
    if override.is_add():
        if found and "." in key:
            case.lines.append(f"{text}: {key} exists already; type {text.lstrip('+')}")
        elif found:
            case.lines.append(f"{text}: {key} exists already; type {key}={to_value(override.value())}")
        else:
            _add(config, key)
    elif override.is_force_add():
        _add(config, key)
    elif not found and override.is_delete():
        case.lines.append(f"{text}: there is no {key} to drop; {offer(missing, _names(config, parent))}")
    elif not found:
        case.lines.append(_unknown_key(case, config, override, parent, missing))


def _below_broken(case: _Case, key: str) -> bool:
    """A key of a group whose option does not exist: nothing can be said about it."""
    return any(key == group or key.startswith(group.replace("/", ".") + ".") for group in case.broken)


def _walk(config: Any, key: str) -> tuple[bool, str, str]:
    """(exists, path of the deepest existing parent, the first part that is missing)."""
    from omegaconf import DictConfig, ListConfig

    node, parent = config, ""
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and part in _keys(node):
            node = node._get_node(part)
        else:
            return False, parent, part
        parent = f"{parent}.{part}" if parent else part
    return True, parent, ""


def _keys(node: Any) -> list[str]:
    return [str(key) for key in node]


def _node(config: Any, path: str) -> Any:
    node = config
    for part in path.split(".") if path else []:
        node = node._get_node(int(part) if part.isdigit() and not hasattr(node, "keys") else part)
    return node


def _names(config: Any, parent: str) -> list[str]:
    from omegaconf import DictConfig

    node = _node(config, parent)
    usable = isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()
    return [key for key in _keys(node) if not key.startswith("_") and key != "hydra"] if usable else []


def _add(config: Any, key: str) -> None:
    """Remembers a key added by an earlier override of the same command."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        OmegaConf.update(config, key, None, force_add=True)


def _unknown_key(case: _Case, config: Any, override: Any, parent: str, missing: str) -> str:
    """`modle=gpt`, `optim.matrx_lr=1`, `matrix_lr=1`: what was meant is looked for near, then everywhere."""
    text, key = override.input_line, override.key_or_group
    value = text.split("=", 1)[1] if "=" in text else "<value>"
    names = _names(config, parent)
    groups = _all_groups(case) if not parent else []
    close = nearest(missing, [*names, *groups])
    same = [path for path in _paths(config) if path.split(".")[-1] == key.split(".")[-1] and path != key]
    where = parent or "the configuration"
    if same and (not close or missing == key):
        return f"{text}: {where} has no key {missing!r}; nearest: {', '.join(same[:3])}; type {same[0]}={value}"
    if _accepted(config, parent, missing) and key == f"{parent}.{missing}":
        return f"{text}: {where} does not set {missing!r} yet; type +{key}={value}"
    declaring = _options_with(case, parent, missing)
    if declaring and not close:
        chosen = f"{parent}={declaring[0]}"
        return f"{text}: {where} has no key {missing!r} as it is chosen; type {chosen} {key}={value}"
    line = f"{text}: {where} has no key {missing!r}; {offer(missing, [*names, *groups])}"
    if not close:
        return (
            line
            if not parent or not _is_value(config, parent)
            else f"{text}: {parent} is a value; type {parent}={value}"
        )
    rest = key[len(parent) + 1 if parent else 0 :].split(".", 1)
    fixed = ".".join(part for part in (parent, close[0], rest[1] if len(rest) > 1 else "") if part)
    return f"{line}; type {fixed}={value}"


def _is_value(config: Any, path: str) -> bool:
    from omegaconf import DictConfig

    return not isinstance(_node(config, path), DictConfig)


def _options_with(case: _Case, group: str, key: str) -> list[str]:
    """Options of a group whose file sets `key` at its top level: `average=ema` for average.decay."""
    folders = [case.composer.folder, *case.composer.config_dirs]
    files = [path for folder in folders for path in sorted((folder / group).glob("*.yaml"))] if group else []
    return [path.stem for path in files if key in keys_of(path)]


def _accepted(config: Any, parent: str, name: str) -> bool:
    """Whether the target of the node at `parent` takes a parameter of this name."""
    node = _node(config, parent)
    target = node.get("_target_") if parent and hasattr(node, "get") else None
    try:
        signature = signature_of(str(target or IMPLICIT_TARGETS.get(parent, "")))
    except (NotFound, ValueError):
        return False
    return signature is not None and name in signature.names


def _all_groups(case: _Case) -> list[str]:
    from hydra.core.object_type import ObjectType

    names = case.repository.get_group_options("", results_filter=ObjectType.GROUP)
    return [name for name in names if name != "hydra"]


def _paths(config: Any, prefix: str = "") -> list[str]:
    """Dotted paths of every value, `hydra` left out."""
    from omegaconf import DictConfig

    paths: list[str] = []
    for key in _names(config, "") if not prefix else _keys(config):
        path = f"{prefix}.{key}" if prefix else key
        child = config._get_node(key)
        paths.append(path)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            paths += _paths(child, path)
    return paths


def _fallback(error: BaseException) -> str:
    """Hydra's own words on one line, with the cause."""
    from golf.config.compose import one_line

    text = one_line(error)
    cause = error.__cause__
    if cause is not None and one_line(cause) not in text:
        text = f"{text} ({one_line(cause)})"
    return text
