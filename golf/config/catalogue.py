"""What can be chosen: every group and option of the config folders, with the line that describes it.

By convention an option's first line is a command that uses it and its second says what it is; `# @package …` may come
before both. Read as plain text: no YAML parser, no Hydra, so that `golf ls` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from golf.config.nearest import offer
from golf.errors import UserError

# The order in which people meet the groups; others follow by name.
ORDER = ("experiment", "model", "optim", "quant", "eval", "data", "tokenizer", "schedule")
ORDER += ("average", "qat", "sparsity", "codec")

ENGINES = ("launcher", "sweeper")  # of a multirun: the groups of Hydra's own that golf fills


@dataclass(frozen=True)
class Option:
    """One YAML file of a group."""

    group: str
    name: str
    description: str
    command: str
    path: Path
    package: str = ""


def read_option(group: str, name: str, path: Path) -> Option:
    """The option in a YAML file, from its leading comment lines."""
    comments: list[str] = []
    package = ""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                break
            text = line.lstrip("# ").strip()
            if text.startswith("@package"):
                package = text.removeprefix("@package").strip()
            elif text:
                comments.append(text)
    described = comments[1] if len(comments) > 1 else ""
    return Option(group, name, described, comments[0] if comments else "", path, package)


def options(folders: Iterable[Path]) -> dict[str, list[Option]]:
    """Group → options over all config folders (the first folder that has an option wins), in reading order."""
    found: dict[str, dict[str, Option]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            relative = path.relative_to(folder).with_suffix("")
            if len(relative.parts) < 2 or (relative.parts[0] == "hydra" and relative.parts[1] not in ENGINES):
                continue
            group, name = _group_of(relative)
            found.setdefault(group, {}).setdefault(name, read_option(group, name, path))
    return {group: [found[group][name] for name in sorted(found[group])] for group in sorted(found, key=_rank)}


def _group_of(relative: Path) -> tuple[str, str]:
    """experiment/record/0322 is an option `record/0322` of `experiment`; model/mlp/relu2 an option of `model/mlp`."""
    if relative.parts[0] in ("experiment", "sweep", "debug"):
        return relative.parts[0], "/".join(relative.parts[1:])
    return "/".join(relative.parts[:-1]), relative.parts[-1]


def _rank(group: str) -> tuple[int, str]:
    top = group.split("/")[0]
    return (ORDER.index(top) if top in ORDER else len(ORDER), group)


def select(found: dict[str, list[Option]], group: str) -> dict[str, list[Option]]:
    """One group with its subgroups; UserError with the nearest names if there is none."""
    group = group.strip("/").replace(".", "/")
    chosen = {name: items for name, items in found.items() if name == group or name.startswith(f"{group}/")}
    if not chosen:
        raise UserError(f"{group}: no such group; {offer(group, found)}; type golf ls for all")
    return chosen
