"""Keys that nothing reads: set in an experiment or with `+`, but declared by no file of their group.

A node's keys are bound to its target's signature; groups without a target (budget, hardware …) are read by name, so
the keys that exist are those that some option of the group, or the primary config, writes down.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from golf.config.annotations import is_node
from golf.config.check import IMPLICIT_TARGETS
from golf.config.code import to_override
from golf.config.nearest import nearest, offer


def undeclared(config: dict[str, Any], name: str, folder: Path) -> list[str]:
    """One line per key of the config that no YAML file of golf's own declares."""
    known = keys_of(folder / f"{name}.yaml")
    groups = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    lines = []
    for key, value in config.items():
        if key not in known and key not in groups and not is_node(value):
            lines.append(_line("", key, value, known | groups))
        elif key in groups and isinstance(value, dict) and not is_node(value) and key not in IMPLICIT_TARGETS:
            files = sorted((folder / key).glob("*.yaml"))
            declared = known_in(folder, name, key).union(*(keys_of(path) for path in files if _is_plain(path)))
            lines += [
                _line(key, inner, item, declared)
                for inner, item in value.items()
                if inner not in declared and not _holds_node(item) and item is not None
            ]
    return lines


def known_in(folder: Path, name: str, group: str) -> frozenset[str]:
    """Keys of a group that the primary config itself sets."""
    content = _content(folder / f"{name}.yaml").get(group)
    return frozenset(map(str, content)) if isinstance(content, dict) else frozenset()


def _is_plain(path: Path) -> bool:
    """An option without a target, whose keys golf reads by name."""
    return "_target_" not in keys_of(path)


def _line(group: str, key: str, value: Any, known: frozenset[str] | set[str]) -> str:
    path = f"{group}.{key}" if group else key
    close = nearest(key, known)
    shown = path if isinstance(value, dict | list) else to_override(path, value)
    fixed = f"{group}.{close[0]}" if close and group else (close[0] if close else "")
    tail = (
        f"; type {to_override(fixed, value)}"
        if fixed and not isinstance(value, dict | list)
        else f"; leave it out, or type ~{path} where a file sets it"
    )
    return f"{shown}: nothing reads {path}, it would silently do nothing; {offer(key, known)}{tail}"


def misplaced_package(folder: Path) -> list[str]:
    """`# @package` below another comment: Hydra ignores it without a word, and the file would do nothing."""
    lines = []
    for path in sorted(folder.rglob("*.yaml")):
        with path.open(encoding="utf-8") as text:
            header = [line for line in islice(text, 8) if line.startswith("#")]
        if any(line.lstrip("# ").startswith("@package") for line in header[1:]):
            lines.append(f"{path}: Hydra reads '# @package' only on the first line; move it there")
    return lines


def _holds_node(value: Any) -> bool:
    if isinstance(value, dict):
        return is_node(value) or any(_holds_node(item) for item in value.values())
    return isinstance(value, list) and any(_holds_node(item) for item in value)


def keys_of(path: Path) -> frozenset[str]:
    """Top-level keys of one YAML file; none for a file that is merged at the root (`@package _global_`)."""
    return frozenset(str(key) for key in _content(path) if key != "defaults")


def _content(path: Path) -> dict[str, Any]:
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _read(path: Path, _mtime_ns: int) -> dict[str, Any]:
    import yaml

    text = path.read_text(encoding="utf-8")
    if "@package _global_" in text.split("\ndefaults", 1)[0]:
        return {}
    content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content if isinstance(content, dict) else {}
