"""Techniques from outside of golf: which ones a run uses, and reading the files that need them.

An artifact of unknown origin never imports anything but golf. A run's own targets (network, quantiser, codec) are
trusted for the files in its folder; a quantiser names its kinds of stored tensors in `stored_kinds`, a codec its
`name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from golf.codec.catalogue import codec_named
from golf.codec.protocol import Codec
from golf.errors import UserError
from golf.quant.kinds import ALL_STORED_KINDS

GROUPS = {"model": "golf.models.", "quant": "golf.", "codec": "golf."}  # what is golf's in each


def own_targets(*configs: Mapping[str, Any]) -> list[str]:
    """Targets of networks, quantisers and codecs in configurations that are not golf's."""
    return sorted(
        {
            target
            for config in configs
            for group, golfs in GROUPS.items()
            for target in targets_in(config.get(group))
            if not target.startswith(golfs)
        }
    )


def targets_in(node: Any) -> list[str]:
    """Every `_target_` in a tree of plain data."""
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets_in(value)]
    if isinstance(node, list):
        return [target for value in node for target in targets_in(value)]
    return []


def stored_kinds(trusted: Iterable[str]) -> tuple[type, ...]:
    """Kinds of stored tensors: golf's, and those that trusted quantisers bring."""
    return (*ALL_STORED_KINDS, *(kind for found in _imported(trusted) for kind in getattr(found, "stored_kinds", ())))


def codec_chooser(trusted: Iterable[str]) -> Callable[[str], Codec]:
    """Codec by name: a trusted one, else golf's."""
    own = {found.name: found for found in _imported(trusted) if hasattr(found, "decode") and hasattr(found, "name")}
    return lambda name: own[name]() if name in own else codec_named(name)


def _imported(trusted: Iterable[str]) -> list[Any]:
    found = []
    for target in trusted:
        module, _, name = target.rpartition(".")
        try:
            found.append(getattr(import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"the run needs '{target}', which cannot be imported ({error}): type --config-dir <folder>/conf, with "
                "its module in <folder>"
            ) from error
    return found
