"""`export.py run=<folder> quant.clip=12`: one key of what the run itself chose, where the group stays `as_run`.

Hydra composes without the run, so in an `as_run` group it finds no keys. Keys typed for one are added (`++`), and what
was added is put over the run's own choice: when a command line is checked, and in the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.config.nearest import nearest, offer
from golf.config.signatures import accepts
from golf.files import read_yaml

GROUPS = ("quant", "codec", "eval")  # of export.yaml
OWN = "as_run"


def added(name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides, with `++` before the keys of groups that are the exported run's own."""
    if name != "export":
        return list(overrides)
    chosen = {text.lstrip("+~").partition("=")[0] for text in overrides if not text.endswith(f"={OWN}")}
    return [f"++{text}" if _part_of(text) in GROUPS and _part_of(text) not in chosen else text for text in overrides]


def _part_of(text: str) -> str:
    """`quant` of `quant.clip=12`; nothing of `+quant.new=1`, `quant=int6_rows`, `~quant.clip`."""
    group, dot, _ = text.partition("=")[0].partition(".")
    return group if dot else ""


def unknown_keys(config: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> dict[str, str]:
    """A line for each override whose key the run's own choice does not have."""
    typed = [text for text in overrides if _part_of(text) in GROUPS and choices.get(_part_of(text)) == OWN]
    own = _run_config(config) if typed else {}
    lines: dict[str, str] = {}
    for text in typed if own else ():
        key = text.partition("=")[0]
        node: Any = own
        for depth, part in enumerate(parts := key.split(".")):
            if not isinstance(node, dict) or part not in node:
                lines[text] = _no_key(text, parts[:depth], part, node)
                break
            node = node[part]
    return lines


def _no_key(text: str, parents: Sequence[str], missing: str, node: Any) -> str:
    """What the run has in place of a key that it does not have."""
    where = ".".join(parents)
    group = parents[0]
    begin = f"{text}: {where} of the run has no key {missing!r}"
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    if f"{where}.{missing}" == text.partition("=")[0] and target and accepts(target, missing):
        return f"{text}: {where} of the run does not set {missing!r}; type +{text}"
    names = [name for name in node if not name.startswith("_")] if isinstance(node, dict) else []
    if close := nearest(missing, names):
        rest = text[len(where) + 1 + len(missing) :]
        return f"{begin}; {offer(missing, names)}; type {where}.{close[0]}{rest}"
    if not isinstance(node, dict):
        return f"{begin}: it is the value {node!r}; type {where}={text.partition('=')[2]}"
    allowed = f"allowed are {', '.join(names)}" if names else "it has none"
    return f"{begin}; {allowed}; type {group}=<option> {text} to choose another {group}"


def with_own_keys(config: dict[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The config, where groups that are the run's own and have typed keys are the run's with these keys changed.

    Without such a run they stay empty: nothing can be checked.
    """
    typed = [group for group in GROUPS if choices.get(group) == OWN and config.get(group)]
    own = _run_config(config) if typed else {}
    return {**config, **{group: _over(own[group], config[group]) if group in own else {} for group in typed}}


def _over(own: Any, typed: Any) -> Any:
    if not (isinstance(own, dict) and isinstance(typed, dict)):
        return typed
    return {**own, **{key: _over(own.get(key), value) for key, value in typed.items()}}


def _run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was trained with; nothing where there is no such run, which the job itself says."""
    path = Path(str(config.get("run"))) / "config.yaml"
    found = read_yaml(path) if path.is_file() else None
    return found if isinstance(found, dict) else {}
