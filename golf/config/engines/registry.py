"""Launchers and sweepers by name: what each needs, and how Hydra comes to know them.

Hydra takes plug-ins only from the namespace `hydra_plugins`, so golf's are in golf/plugins/hydra_plugins, and
golf/plugins is appended to the path. Invariant: nothing of an engine is imported before it is chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

NEEDED = {  # group=option → the module that it needs and the extra that brings it
    "hydra/launcher=joblib": ("joblib", "sweep"),
    "hydra/launcher=ray": ("ray", "ray"),
    "hydra/launcher=submitit_slurm": ("submitit", "slurm"),
    "hydra/launcher=submitit_local": ("submitit", "slurm"),
    "hydra/sweeper=optuna": ("optuna", "sweep"),
}
MODULE = "hydra_plugins.golf_sweeps"
CLASSES = ("JoblibLauncher", "RayLauncher", "SlurmLauncher", "LocalLauncher", "OptunaSweeper")


def register() -> None:
    """Makes the engines known to Hydra, whether or not it has looked for plug-ins before."""
    import golf

    folder = str(Path(golf.__file__).resolve().parent / "plugins")
    if folder not in sys.path:
        sys.path.append(folder)
    from hydra.core.plugins import Plugins

    plugins, module = Plugins.instance(), importlib.import_module(MODULE)
    for name in CLASSES:
        plugins.register(getattr(module, name))
    _forget_others()


def _forget_others() -> None:
    """Other plug-ins of the same names: Hydra would hold golf's YAML files against their schemas."""
    from hydra.core.config_store import ConfigStore

    groups: dict[str, dict[str, object]] = ConfigStore.instance().repo.get("hydra", {})
    for text in NEEDED:
        group, _, option = text.removeprefix("hydra/").partition("=")
        groups.get(group, {}).pop(f"{option}.yaml", None)


def mistakes(overrides: Sequence[str], multirun: bool) -> list[str]:
    """One line per engine that cannot work: its package is missing, or there is only one job."""
    lines: list[str] = []
    for text in overrides:
        if text.startswith(("hydra/launcher=", "hydra/sweeper=")) and not multirun:
            lines.append(f"{text} is for several jobs: without -m it would do nothing; type -m {text}")
        elif text in NEEDED and importlib.util.find_spec(NEEDED[text][0]) is None:
            module, extra = NEEDED[text]
            lines.append(
                f"{text} needs {module}, which is not installed; type pip install -c constraints.txt -e '.[{extra}]'"
            )
    if multirun and "hydra/sweeper=optuna" not in overrides:
        lines += [
            f"{text}: an interval has no grid; type hydra/sweeper=optuna, or list values: key=a,b,c or key=range(1,4)"
            for text in overrides
            if "interval(" in text.partition("=")[2]
        ]
    return lines
