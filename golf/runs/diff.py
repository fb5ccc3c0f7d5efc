"""`golf runs diff A B`: what differs between two experiments, runs or YAML files, as reviewers read records.

Both sides are resolved configs; a run's is the one it was trained with (devices and data types already decided, where
an experiment may still say auto). Invariant: two configs with no line between them build the same nodes. No torch,
unless asked to count parameters.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from golf.config.code import to_value
from golf.config.nearest import offer
from golf.errors import UserError

Config = dict[str, Any]
ABSENT = object()
FORMS = "an experiment (golf ls experiment), a run folder, a YAML file, or overrides in quotes"


@dataclass(frozen=True)
class Difference:
    """One dotted key and its value on either side; ABSENT where a side does not have it.

    `path` is the key in its parts, which may contain dots themselves (the patterns of a quantisation plan).
    """

    group: str
    key: str
    left: Any
    right: Any
    path: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        sides = {name: value for name, value in (("left", self.left), ("right", self.right)) if value is not ABSENT}
        return {"group": self.group, "key": self.key, "only": None if len(sides) == 2 else next(iter(sides)), **sides}


def add_parser(commands: Any) -> None:
    diff = commands.add_parser("diff", help="what differs between two resolved configs", description=__doc__)
    diff.add_argument("left", metavar="A", help=FORMS)
    diff.add_argument("right", metavar="B", help="the same")
    diff.add_argument("--config-dir", type=Path, action="append", default=[], help="a further folder with groups")
    diff.add_argument("--json", action="store_true", help="machine-readable output")
    diff.add_argument("--parameters", action="store_true", help="count the parameters of both (takes two seconds)")
    diff.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`golf runs diff`: exit code 0, with or without differences."""
    sides = [load(text, arguments.config_dir) for text in (arguments.left, arguments.right)]
    found = differences(*sides, parameters=arguments.parameters)
    if arguments.json:
        names = {"left": arguments.left, "right": arguments.right}
        print(json.dumps({**names, "differences": [item.record() for item in found]}, indent=1))
    else:
        print(render(found, arguments.left, arguments.right))
    return 0


def load(text: str, config_dirs: Sequence[Path] = ()) -> Config:
    """The resolved config that a command-line argument names.

    Raises:
        UserError: it names nothing, or what it names does not compose.
    """
    from golf.config.compose import compose

    path = Path(text)
    if path.is_dir():
        if not (path / "config.yaml").is_file():
            raise UserError(f"{text}: a folder without config.yaml is not a run; type the folder of a run")
        return _read(path / "config.yaml")
    if path.suffix in (".yaml", ".yml"):
        return _load_file(path, config_dirs)
    if "=" in text:
        return compose("train", shlex.split(text), config_dirs)
    return compose("train", [f"experiment={_experiment(text, config_dirs)}"], config_dirs)


def _experiment(name: str, config_dirs: Sequence[Path]) -> str:
    from golf.config.catalogue import options
    from golf.config.compose import conf_dir

    known = [option.name for option in options([conf_dir(), *config_dirs]).get("experiment", [])]
    if f"record/{name}" in known:
        return f"record/{name}"
    if name not in known:
        raise UserError(f"{name}: neither an experiment nor a folder or file; {offer(name, known)}; type {FORMS}")
    return name


def _load_file(path: Path, config_dirs: Sequence[Path]) -> Config:
    """A resolved config as it stands; a file with `defaults` or `@package` is composed as an experiment."""
    from golf.config.compose import compose

    content = _read(path)
    text = path.read_text(encoding="utf-8")
    if "defaults" not in content and "@package" not in text[:200]:
        return content
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "experiment" / f"{path.stem}.yaml"
        copy.parent.mkdir()
        copy.write_text(text, encoding="utf-8")
        return compose("train", [f"experiment={path.stem}"], [*config_dirs, Path(folder)])


def _read(path: Path) -> Config:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{path} cannot be read: {reason}; type {FORMS}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys; type {FORMS}")
    return content


def differences(left: Config, right: Config, parameters: bool = False) -> list[Difference]:
    """All keys whose values differ, in the order of the left config, and what follows from them (group `derived`)."""
    from golf.config.derived import derived

    found = keys_that_differ(left, right)
    values = derived(left, parameters), derived(right, parameters)
    keys = dict.fromkeys([*values[0], *values[1]])
    sides = [(key, values[0].get(key, ABSENT), values[1].get(key, ABSENT)) for key in keys]
    return found + [Difference("derived", *side) for side in sides if side[1] != side[2]]


def keys_that_differ(left: Config, right: Config) -> list[Difference]:
    """`differences` without what follows from them."""
    return _compare(left, right, (), "")


def _compare(left: Config, right: Config, outer: tuple[str, ...], group: str) -> list[Difference]:
    found = []
    for key in dict.fromkeys([*left, *right]):
        path, values = (*outer, key), (left.get(key, ABSENT), right.get(key, ABSENT))
        inner = group or (str(key) if any(isinstance(value, dict) for value in values) else "run")
        if any(isinstance(value, dict) for value in values) and all(_is_branch(value) for value in values):
            branches = [value if isinstance(value, dict) else {} for value in values]
            found += _compare(branches[0], branches[1], path, _subgroup(path, inner))
        elif values[0] is ABSENT or values[1] is ABSENT or not _same(*values):
            found.append(Difference(inner, ".".join(map(str, path)), *values, path))
    return found


def _is_branch(value: Any) -> bool:
    return isinstance(value, dict) or value is ABSENT or value is None


def _subgroup(path: tuple[str, ...], group: str) -> str:
    """model.mlp is a config group of its own, other nested nodes belong to the group they are in."""
    return "/".join(path) if len(path) == 2 and path[0] == "model" else group


def _same(left: Any, right: Any) -> bool:
    return left == right and (isinstance(left, bool) == isinstance(right, bool))


def render(found: Sequence[Difference], left: str, right: str) -> str:
    """A table per group: key, left, right; `-` where a side does not have the key."""
    if not found:
        return f"no difference between {left} and {right}"
    told = [item for item in found if not item.key.endswith("._partial_")] or found
    rows = [(item.group, item.key, shown(item.key, item.left), shown(item.key, item.right)) for item in told]
    width = max(len(row[1]) for row in rows)
    middle = max(len(left), *(len(row[2]) for row in rows))
    lines = [f"{'':{width + 4}}{left:{middle}}  {right}".rstrip()]
    for group in dict.fromkeys(row[0] for row in rows):
        lines.append(group)
        lines += [f"  {row[1]:{width}}  {row[2]:{middle}}  {row[3]}".rstrip() for row in rows if row[0] == group]
    return "\n".join(lines)


def shown(key: str, value: Any) -> str:
    if value is ABSENT:
        return "-"
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    return f"{value:,}" if key.endswith("parameters") else to_value(value)
