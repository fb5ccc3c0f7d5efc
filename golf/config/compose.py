"""Composes a config from `conf/` with overrides, without torch, and says everything that is wrong with the overrides.

Hydra stops at the first error and words it for its own authors; here each override is judged by itself, so that a
command with three mistakes gets three lines. Invariant: what composes here is what `python train.py` composes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golf.config import resolvers
from golf.config.ablation import ablated
from golf.config.as_run import added, unknown_keys, with_own_keys
from golf.config.engines import registry
from golf.config.replaced import Replaced, without_foreign_keys
from golf.config.scaling import rescaled
from golf.errors import UserError

COMMANDS = ("train", "export", "evaluate")


def conf_dir() -> Path:
    """The folder of golf's own YAML files: `conf/` beside the package in a checkout, or inside an installed one."""
    import golf

    package = Path(golf.__file__).resolve().parent
    for folder in (package.parent / "conf", package / "conf"):
        if folder.is_dir():
            return folder
    raise UserError(f"no conf folder beside {package}: run from a checkout of golf (git clone, then make install)")


class CompositionError(UserError):
    """Overrides that do not compose; `lines` has one entry per mistake, `good` the overrides without one."""

    def __init__(self, lines: Sequence[str], good: Sequence[str] = ()) -> None:
        super().__init__("\n".join(lines))
        self.lines, self.good = list(lines), list(good)


@dataclass
class Composer:
    """A primary config (train, export, evaluate) over a search path; composes any number of override lists.

    `replaced`: what the last composition left out of an experiment whose options others were typed for.
    """

    name: str = "train"
    config_dirs: tuple[Path, ...] = ()
    folder: Path = field(default_factory=conf_dir)
    replaced: list[Replaced] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        from hydra import version
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra._internal.utils import create_config_search_path
        from hydra.core.utils import setup_globals

        version.setbase("1.3")
        setup_globals()
        resolvers.register()
        if not (self.folder / f"{self.name}.yaml").is_file():
            raise UserError(f"{self.folder} has no {self.name}.yaml; type one of {', '.join(COMMANDS)}")
        search_path = create_config_search_path(str(self.folder))
        registry.register()
        for folder in self.config_dirs:
            if not folder.is_dir():
                raise UserError(f"--config-dir {folder}: no such folder; type the path of a folder with config groups")
            search_path.prepend("command-line", f"file://{folder.resolve()}", anchor="schema")
        self.loader = ConfigLoaderImpl(search_path)

    def load(self, overrides: Sequence[str]) -> Any:
        """The composed DictConfig with its `hydra` node, interpolations unresolved; Hydra's own errors."""
        from hydra.types import RunMode

        typed = added(self.name, overrides)
        return self.loader.load_configuration(self.name, typed, run_mode=RunMode.RUN, from_shell=False)

    def fit(self, config: Any, overrides: Sequence[str]) -> list[Replaced]:
        """Take an experiment's keys for options that others were typed for out of its composition, in place."""
        return without_foreign_keys(self.load, config, overrides) if self.name == "train" else []

    def compose(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """The resolved config as plain dicts and lists, without `hydra`; raises CompositionError with every mistake."""
        from hydra.errors import HydraException
        from omegaconf import open_dict
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        try:
            config = self.load(overrides)
        except (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
            from golf.config.diagnose import diagnose

            lines, good = diagnose(self, list(overrides), error)
            raise CompositionError(lines, good) from error
        choices = dict(config.hydra.runtime.choices) if self.name == "export" else {}
        replaced = self.fit(config, overrides)
        with open_dict(config):
            config.pop("hydra", None)
        plain = resolve(config)
        if unknown := unknown_keys(plain, choices, overrides):
            raise CompositionError(list(unknown.values()), [text for text in overrides if text not in unknown])
        found = ablated(self, rescaled(with_own_keys(plain, choices), overrides), overrides)
        self.replaced = replaced  # now, because a parent may have been composed meanwhile
        return found


def compose(
    name: str = "train",
    overrides: Iterable[str] = (),
    config_dirs: Iterable[Path | str] = (),
    folder: Path | None = None,
) -> dict[str, Any]:
    """One resolved config (see Composer.compose); `config_dirs` are further folders with config groups."""
    folders = tuple(Path(item) for item in config_dirs)
    return Composer(name, folders, folder or conf_dir()).compose(list(overrides))


def resolve(config: Any) -> dict[str, Any]:
    """Plain containers of a composed config; every interpolation that cannot be resolved becomes one line."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return absent_parts_to_none(OmegaConf.to_container(config, resolve=True))
    except (OmegaConfBaseException, ValueError):
        pass
    lines: list[str] = []
    plain = _resolve_leaves(config, "", lines)
    if lines:
        raise CompositionError(lines)
    return absent_parts_to_none(plain)


def absent_parts_to_none(value: Any, inside_node: bool = False) -> Any:
    """A part of a node whose group says `none` is an empty mapping in the files: what is built gets None for it."""
    if isinstance(value, list):
        return [absent_parts_to_none(item) for item in value]
    if not isinstance(value, dict):
        return value
    if inside_node and not value:
        return None
    return {key: absent_parts_to_none(item, "_target_" in value) for key, item in value.items()}


def _resolve_leaves(node: Any, path: str, lines: list[str]) -> Any:
    """Resolves leaf by leaf; `${hydra:…}` stays as text outside a running job, other failures go to `lines`."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        keys = list(node.keys())
        children = {str(key): (node, key, f"{path}.{key}" if path else str(key)) for key in keys}
        return {name: _resolve_child(*child, lines) for name, child in children.items()}
    if isinstance(node, ListConfig) and not node._is_none() and not node._is_missing():
        return [_resolve_child(node, index, f"{path}[{index}]", lines) for index in range(len(node))]
    try:
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        lines.append(f"{path}: {one_line(error)}")
        return None


def _resolve_child(parent: Any, key: Any, path: str, lines: list[str]) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

    if OmegaConf.is_missing(parent, key):
        return "???"
    try:
        return _resolve_leaves(parent[key], path, lines)
    except (OmegaConfBaseException, ValueError) as error:
        raw = OmegaConf.to_container(parent, resolve=False)[key]  # type: ignore[index, call-overload]
        if isinstance(raw, str) and ("${hydra:" in raw or isinstance(error, InterpolationToMissingValueError)):
            return raw  # the missing value itself is reported where it stands
        lines.append(f"{path}={raw}: {one_line(error)}; type {path}=<value>")
        return None


def one_line(error: BaseException) -> str:
    """A message of Hydra or OmegaConf without its line breaks and key dump."""
    text = str(error).split("\n    full_key:")[0]
    return " ".join(text.split())


def split_config_dirs(text: str | None) -> tuple[Path, ...]:
    """`--config-dir a` or several joined by the path separator of the system."""
    return tuple(Path(item) for item in (text or "").split(os.pathsep) if item)
