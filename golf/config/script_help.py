"""`python train.py --help`: groups with their options and the keys of a run, from the YAML files' own comments."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from golf.config.catalogue import options, read_option
from golf.config.compose import conf_dir

FLAGS = """flags
  -m, --multirun      one job per combination: optim.matrix_lr=.02,.04 seed=0,1,2
  --cfg job           print the configuration without running it
  --config-dir DIR    a further folder with config groups (your techniques)
  --hydra-help        every flag of Hydra

see also: golf ls, golf show, golf check"""
_GROUP_LINE = re.compile(r"^  - ([\w/]+): (\S+)")
_KEY_LINE = re.compile(r"^(\w+): ([^#]*?)\s*# (.*)$")


def script_help(name: str, folder: Path | None = None) -> str:
    """The whole help text of train, export or evaluate."""
    folder = folder or conf_dir()
    primary = folder / f"{name}.yaml"
    about = read_option("", name, primary)
    lines = [f"{about.command}\n\n{about.description}\n", "groups (group=option; * is the default)"]
    text = primary.read_text(encoding="utf-8").splitlines()
    found = options([folder])
    for match in filter(None, map(_GROUP_LINE.match, text)):
        group, default = match.groups()
        names = [f"{o.name}*" if o.name == default else o.name for o in found.get(group, [])]
        lines.append(textwrap.fill(" ".join(names), 110, initial_indent=f"  {group:<11} ", subsequent_indent=" " * 14))
    lines.append("\nkeys of a run (key=value); each group's keys: golf show, group.key=value")
    for match in filter(None, map(_KEY_LINE.match, text)):
        key, value, comment = match.groups()
        lines.append(f"  {f'{key}={value}':<17} {comment}")
    return "\n".join([*lines, "", FLAGS])
