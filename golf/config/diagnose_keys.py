"""Why the key of an override does not exist, or exists already: what was meant is looked for near, then everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from golf.config.check import IMPLICIT_TARGETS
from golf.config.code import to_value
from golf.config.moved import MOVED
from golf.config.nearest import nearest, offer
from golf.config.signatures import accepts
from golf.config.undeclared import keys_of

if TYPE_CHECKING:
    from golf.config.compose import Composer


@dataclass
class Case:
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


def check_key(case: Case, config: Any, override: Any) -> None:
    """A key: does it exist (or, with +, not yet)?"""
    key = override.key_or_group
    if below_broken(case, key):
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


def below_broken(case: Case, key: str) -> bool:
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


def _unknown_key(case: Case, config: Any, override: Any, parent: str, missing: str) -> str:
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


def _options_with(case: Case, group: str, key: str) -> list[str]:
    """Options of a group whose file sets `key` at its top level: `average=ema` for average.decay."""
    folders = [case.composer.folder, *case.composer.config_dirs]
    files = [path for folder in folders for path in sorted((folder / group).glob("*.yaml"))] if group else []
    return [path.stem for path in files if key in keys_of(path)]


def _accepted(config: Any, parent: str, name: str) -> bool:
    """Whether the target of the node at `parent` takes a parameter of this name."""
    node = _node(config, parent)
    target = node.get("_target_") if parent and hasattr(node, "get") else None
    return accepts(str(target or IMPLICIT_TARGETS.get(parent, "")), name)


def _all_groups(case: Case) -> list[str]:
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
