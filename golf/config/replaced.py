"""`experiment=mine quant=int8_rows`: an option in the place of the one that the experiment chose, and sets keys of.

Hydra puts the experiment's keys over whatever option was typed, so that trellis codes' steps would be set for plain
int8. Here an experiment's keys go with the option that they were written for: another option keeps those that it has,
too, and the others are left out, which is said. What is typed always stays.

Three compositions decide: N, the one asked for; F, the typed option without the experiment; E, the experiment without
the typed option. A value that only the experiment can have put into N, where F has no place for it, goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.config.code import to_override
from golf.config.signatures import refuses

Load = Callable[[Sequence[str]], Any]  # overrides -> Hydra's composition
GROUP = "experiment"


@dataclass(frozen=True)
class Replaced:
    """An option that was typed in the place of an experiment's own."""

    group: str
    option: str
    chosen: str
    experiment: str
    left_out: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        typed = f"{self.group}={self.option} in the place of {self.chosen}"
        kept = f"; kept: {', '.join(self.kept)}" if self.kept else ""
        return f"{typed}: experiment={self.experiment}'s own keys for it left out: {', '.join(self.left_out)}{kept}"


def without_foreign_keys(load: Load, config: Any, overrides: Sequence[str]) -> list[Replaced]:
    """Take out of `config`, in place, an experiment's keys for options that typed ones have replaced.

    Args:
        load: composes other overrides in the same way.
        config: composed, interpolations unresolved.
        overrides: the command line it was composed from.
    """
    from hydra.errors import HydraException

    experiment = next((text.partition("=")[2] for text in overrides if text.startswith(f"{GROUP}=")), "")
    typed = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    groups = [key for key in typed if key != GROUP and "." not in key and not key.startswith(("+", "~", "hydra"))]
    if not experiment or not groups:
        return []
    try:
        plain = load([text for text in overrides if text.partition("=")[0] in groups])
    except HydraException:  # a group that only the experiment has in its defaults: all of it is the experiment's
        return []
    nodes = {group: tuple(_at(node, _package(group)) for node in (config, plain)) for group in groups}
    touched = {group: (now, fresh) for group, (now, fresh) in nodes.items() if now != fresh and _is_part(now, fresh)}
    if not touched:
        return []
    own, found = load([f"{GROUP}={experiment}"]), []
    for group, (now, fresh) in touched.items():
        chosen = str(own.hydra.runtime.choices.get(group))
        if chosen == typed[group]:
            continue
        fitting = _Fitting(typed)
        merged = fitting.merge(now, fresh, _at(own, _package(group)), _package(group))
        if fitting.left_out:
            _put(config, _package(group), merged)
            lists = tuple(fitting.left_out), tuple(fitting.kept)
            found.append(Replaced(group, typed[group], chosen, experiment, *lists))
    return found


def _package(group: str) -> str:
    """Where Hydra puts a group: `model.mlp` of `model/mlp`."""
    return group.partition("@")[2] or group.replace("/", ".")


def _is_part(now: Any, fresh: Any) -> bool:
    """Whether an option is something that is built, or nothing; plain tables are read by name, whatever is in them."""
    return isinstance(now, dict) and isinstance(fresh, dict) and ("_target_" in fresh or not fresh)


class _Fitting:
    """One group's merge, and what it has left out and kept."""

    def __init__(self, typed: Mapping[str, str]) -> None:
        self.typed = {key.lstrip("+") for key in typed}
        self.left_out: list[str] = []
        self.kept: list[str] = []

    def merge(self, now: Any, fresh: Any, before: Any, path: str) -> Any:
        """What of `now` has a place in `fresh`; `before`: the experiment's own value there."""
        if not isinstance(now, dict) and not isinstance(fresh, dict):
            if now != fresh and path not in self.typed:
                self.kept.append(_shown(path, now))
            return now
        if not isinstance(now, dict) or not isinstance(fresh, dict) or now.get("_target_") != fresh.get("_target_"):
            return now if self._whole(now, before, path) else self._without(now, fresh, path)
        merged = {}
        for key, value in now.items():
            place, own = f"{path}.{key}", before.get(key) if isinstance(before, dict) else None
            if key in fresh:
                merged[key] = self.merge(value, fresh[key], own, place)
            elif (self._has_place(fresh, key) and self._whole(value, own, place)) or self._typed(place):
                merged[key] = value
            else:
                self.left_out.append(_shown(place, value))
        return merged

    def _has_place(self, fresh: dict[str, Any], key: str) -> bool:
        """Whether an option takes a key that it does not set: its target does not refuse it, or it is an open table."""
        return not refuses(str(fresh["_target_"]), key) if "_target_" in fresh else bool(fresh)

    def _whole(self, now: Any, before: Any, path: str) -> bool:
        """Whether a value is complete as the experiment wrote it, not a patch of something that is gone."""
        if self._typed(path):
            return True
        if now != before:
            return False
        self.kept.append(_shown(path, now))
        return True

    def _typed(self, path: str) -> bool:
        return any(key == path or key.startswith(f"{path}.") for key in self.typed)

    def _without(self, now: Any, fresh: Any, path: str) -> Any:
        self.left_out.append(_shown(path, now))
        return fresh


def _shown(path: str, value: Any) -> str:
    """`quant.embedding.factor=8.4`; of a mapping with a single key, that."""
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path = f"{path}.{key}"
    return path if isinstance(value, dict | list) else to_override(path, value)


def _at(config: Any, path: str) -> Any:
    from omegaconf import OmegaConf

    node = OmegaConf.select(config, path, throw_on_resolution_failure=False)
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def _put(config: Any, path: str, value: Any) -> None:
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        OmegaConf.update(config, path, value, merge=False, force_add=True)
