"""Expands `a=1,2 b=range(3)` into the override lists worth checking: a handful, not the whole product.

Checked are the first value of every sweep together, then each further value with the first values of the others:
every value is seen once, and mistakes that only a combination makes are left to the job that runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golf.config.compose import Composer


def variants(composer: Composer, overrides: Sequence[str], limit: int = 24) -> list[list[str]]:
    """Override lists to check, at most `limit`; unreadable overrides are passed on for the composer to explain."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=composer.loader)
    choices: list[list[str]] = []
    for text in overrides:
        try:
            override = parser.parse_overrides([text])[0]
        except HydraException:
            choices.append([text])
            continue
        choices.append(_values(override) if override.is_sweep_override() else [text])
    first = [values[0] for values in choices]
    found = [first]
    for index, values in enumerate(choices):
        found += [[*first[:index], value, *first[index + 1 :]] for value in values[1:]]
    return found[:limit]


def with_sweep_file(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """The overrides with those that a file of conf/sweep adds (`hydra.sweeper.params`); the command line wins."""
    params = _file_params(composer, overrides)
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    return [*(f"{key}={value}" for key, value in params.items() if key not in given), *overrides]


def without_multirun(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """A sweep without -m would be one run that varies nothing: the line that says so, if it is one."""
    if not any(text.startswith("sweep=") for text in overrides) or not _file_params(composer, overrides):
        return []
    name = next(text for text in overrides if text.startswith("sweep="))
    return [f"{name} is for several jobs: without -m it would do nothing; type -m {name}"]


def _file_params(composer: Composer, overrides: Sequence[str]) -> dict[str, str]:
    """Key → values of the sweep file chosen in the overrides; empty where they do not compose (told elsewhere)."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    chosen = [text for text in overrides if text.startswith("sweep=")]
    try:
        found = composer.load(chosen).hydra.sweeper.get("params") if chosen else None
    except (HydraException, OmegaConfBaseException):
        return {}
    return {str(key): str(value) for key, value in (found or {}).items()}


def _values(override: object) -> list[str]:
    """`key=value` for every value of one sweep; an interval is represented by its start."""
    from hydra.core.override_parser.types import IntervalSweep, Override

    assert isinstance(override, Override)
    key, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        return [f"{key}={swept.start}"]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return values or [override.input_line or key]
