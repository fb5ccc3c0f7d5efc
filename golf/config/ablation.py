"""Leave one out: an experiment with one of its differences from its parent taken back (`sweep=ablate`).

An experiment names its `parent`. What differs between the two resolved configs falls into parts, the config groups as
`golf runs diff` shows them; `ablate=<part>` takes the parent's values of that part and leaves everything else. Both are
composed with the same command line, so that a budget or a device given there is no difference.
Invariant: `ablate=null` is the experiment itself, and all parts together are the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from golf.config.nearest import offer
from golf.errors import UserError

if TYPE_CHECKING:
    from golf.config.compose import Composer

EVERY_PART = "all"  # what conf/sweep/ablate.yaml says; replaced by the parts before the sweep starts
NOT_A_PART = ("name", "parent", "ablate", "published", "seed", "objective", "through", "export", "logger")


def parts(own: dict[str, Any], parent: dict[str, Any]) -> dict[str, list[Any]]:
    """Part → its differences, in the order of the config."""
    from golf.runs.diff import keys_that_differ

    found: dict[str, list[Any]] = {}
    for item in keys_that_differ(*({k: v for k, v in side.items() if k not in NOT_A_PART} for side in (own, parent))):
        found.setdefault(item.key if item.group == "run" else item.group, []).append(item)
    return found


def without_part(own: dict[str, Any], parent: dict[str, Any], part: str) -> dict[str, Any]:
    """`own` with the parent's values of a part.

    Raises:
        UserError: there is no such part.
    """
    from golf.config.compose import absent_parts_to_none
    from golf.runs.diff import ABSENT

    known = parts(own, parent)
    if part not in known:
        told = f"not a difference from the parent {own['parent']}; {offer(part, known)}"
        raise UserError(f"ablate={part}: {told}; type -m sweep=ablate")
    changed = deepcopy(own)
    for item in known[part]:
        if item.right is ABSENT:
            _remove(changed, item.path, parent)
        else:
            _put(changed, item.path, deepcopy(item.right))
    return absent_parts_to_none(changed)


def _put(node: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[path[-1]] = value


def _remove(node: Any, path: Sequence[str], parent: Any) -> None:
    """Remove a key, and the mappings left empty by it that the parent does not have at all."""
    if not isinstance(node, dict) or path[0] not in node:
        return
    beside = parent.get(path[0], {}) if isinstance(parent, dict) else {}
    if len(path) > 1:
        _remove(node[path[0]], path[1:], beside)
        if node[path[0]] or (isinstance(parent, dict) and path[0] in parent):
            return
    node.pop(path[0])


def ablated(composer: Composer, config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The config as it is without `ablate`, or with that part taken from the parent."""
    part = config.get("ablate")
    if part is None:
        return config
    if part == EVERY_PART:
        raise UserError("ablate=all is for a sweep of jobs; type -m sweep=ablate experiment=<yours>")
    return {**without_part(config, composed_parent(composer, config, overrides), str(part)), "ablate": part}


def composed_parent(composer: Composer, config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The parent experiment under the same command line.

    Raises:
        UserError: the experiment names no parent.
    """
    if not config.get("parent"):
        raise UserError(
            "ablate: the experiment names no parent; put parent: <experiment> into its YAML, or type parent=…"
        )
    kept = [text for text in overrides if text.lstrip("+").partition("=")[0] not in ("experiment", "ablate", "parent")]
    return composer.compose([*kept, f"experiment={config['parent']}"])


def expanded(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """The overrides of a multirun with the parts of its experiment in the place of sweep=ablate's placeholder.

    Raises:
        UserError: several experiments at once, no parent, or no difference from it.
    """
    given = list(overrides)
    if "sweep=ablate" not in given or any(text.startswith("ablate=") for text in given):
        return given
    from golf.config.sweeps import variants

    experiments = [text for text in given if text.startswith("experiment=")]
    if any("," in text for text in experiments):
        raise UserError(f"{experiments[0]}: sweep=ablate takes one experiment at a time; type experiment=<one>")
    single = variants(composer, [text for text in given if text != "sweep=ablate"])[0]
    own = composer.compose(single)
    found = parts(own, composed_parent(composer, own, single))
    if not found:
        raise UserError(f"sweep=ablate: {' '.join(experiments)} does not differ from its parent {own['parent']}")
    return [*given, f"ablate=null,{','.join(found)}"]
