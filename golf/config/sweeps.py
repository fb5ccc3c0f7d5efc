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


def _values(override: object) -> list[str]:
    """`key=value` for every value of one sweep; an interval is represented by its start."""
    from hydra.core.override_parser.types import IntervalSweep, Override

    assert isinstance(override, Override)
    key, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        return [f"{key}={swept.start}"]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return values or [override.input_line or key]
