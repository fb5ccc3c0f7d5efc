"""Why overrides do not compose: each is judged by itself against the groups, options and keys that exist.

Called only after Hydra has refused, so that the good case pays nothing. Invariant: at least one line is returned, and
each names the override, what exists instead, and what to type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from golf.config.code import to_value
from golf.config.diagnose_keys import Case, below_broken, check_key
from golf.config.nearest import nearest, offer

if TYPE_CHECKING:
    from golf.config.compose import Composer


def diagnose(composer: Composer, overrides: list[str], error: BaseException) -> tuple[list[str], list[str]]:
    """(one line per mistake, overrides without one); Hydra's own words where no mistake was recognised."""
    case = Case(composer)
    for text in overrides:
        _parse(case, text)
    config = _compose_groups(case)
    if config is not None:
        case.good = [override.input_line for override in case.groups]
        for override in case.values:
            before = len(case.lines)
            check_key(case, config, override)
            if len(case.lines) == before and not below_broken(case, override.key_or_group):
                case.good.append(override.input_line)
    if not case.lines:
        case.lines.append(_fallback(error))
    return list(dict.fromkeys(case.lines)), case.good


def _parse(case: Case, text: str) -> None:
    """Sorts one override into groups and values, or explains why it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create(config_loader=case.composer.loader).parse_overrides([text])[0]
    except HydraException as error:
        case.lines.append(_bad_grammar(text, error))
        return
    key = override.key_or_group
    if override.is_sweep_override():
        alternative = "" if case.repository.group_exists(key) else f", or for one list {key}=[{text.split('=', 1)[1]}]"
        case.lines.append(f"{text}: several values need a sweep; type -m {text}{alternative}")
    elif key == "hydra.searchpath" or not case.repository.group_exists(key) or isinstance(override.value(), dict):
        case.values.append(override)
    else:
        _check_group(case, override)


def _bad_grammar(text: str, error: BaseException) -> str:
    key, sign, value = text.partition("=")
    if not sign and not text.startswith("~"):
        return f"{text}: an override is key=value; type {text}=<value>"
    if re.fullmatch(r"[+~]{0,2}[\w./@:$-]+", key):
        return f'{text}: the value needs quotes of Hydra\'s grammar; type "{key}={_quote_all(value)}"'
    return f"{text}: not a valid override ({_first_line(error)}); type key=value"


def _quote_all(value: str) -> str:
    quoted = to_value(value.strip("'\""))
    return quoted if quoted.startswith("'") else f"'{quoted}'"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _check_group(case: Case, override: Any) -> None:
    """A choice of an option: does the option exist?"""
    from hydra.core.object_type import ObjectType

    group, value = override.key_or_group, override.value()
    choices = value if isinstance(value, list) else [value]
    options = case.repository.get_group_options(group, results_filter=ObjectType.CONFIG)
    options += _options_below(case, group)
    wrong = [str(choice) for choice in choices if choice is not None and str(choice) not in options]
    if override.is_delete() and value in (None, ""):
        wrong = []
    for choice in wrong:
        case.broken.add(group)
        close = nearest(choice, options)
        tail = f"; type {group}={close[0]}" if close else f"; type golf ls {group} for all"
        case.lines.append(f"{group}={choice}: {group} has no option {choice!r}; {offer(choice, options)}{tail}")
    if not wrong:
        case.groups.append(override)


def _options_below(case: Case, group: str, depth: int = 0) -> list[str]:
    """Options in subfolders, as `folder/option` (experiment=record/…)."""
    from hydra.core.object_type import ObjectType

    found: list[str] = []
    if depth < 3:
        for name in case.repository.get_group_options(group, results_filter=ObjectType.GROUP):
            below = case.repository.get_group_options(f"{group}/{name}", results_filter=ObjectType.CONFIG)
            found += [f"{name}/{option}" for option in [*below, *_options_below(case, f"{group}/{name}", depth + 1)]]
    return found


def _compose_groups(case: Case) -> Any:
    """The config with the valid options chosen and no value overridden; None if that fails too."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    searchpath = [v.input_line for v in case.values if v.key_or_group == "hydra.searchpath"]
    try:
        return case.composer.load([*searchpath, *(override.input_line for override in case.groups)])
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        if case.groups:
            _blame_group(case, error)
        elif not case.lines:
            case.lines.append(_fallback(error))
        return None


def _blame_group(case: Case, error: BaseException) -> None:
    """Options that exist but do not compose: named one by one if they fail alone, else together."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    before = len(case.lines)
    for override in case.groups:
        try:
            case.composer.load([override.input_line])
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as alone:
            if "No match in the defaults list" in str(alone) or "multiple values" in str(alone):
                case.lines.append(_not_chosen(case, override))
            else:
                case.lines.append(f"{override.input_line}: {_fallback(alone)}")
    if len(case.lines) == before:
        case.lines.append(_fallback(error))


def _not_chosen(case: Case, override: Any) -> str:
    """A group that exists, but that nothing in this script's configuration chooses."""
    group, text = override.key_or_group, override.input_line
    if "/" in group:
        return f"{text}: nothing in this configuration chooses {group}; type +{group}={override.value()}"
    chosen = [name for name in _chosen(case.composer.load([])) if "/" not in name]
    return f"{text}: {case.composer.name}.py has no group {group}; it takes {', '.join(chosen)}; leave {group} out"


def _chosen(config: Any) -> list[str]:
    """Groups that the defaults of a composed config choose from."""
    return [str(name) for name in config.hydra.runtime.choices if not str(name).startswith("hydra")]


def _fallback(error: BaseException) -> str:
    """Hydra's own words on one line, with the cause."""
    from golf.config.compose import one_line

    text = one_line(error)
    cause = error.__cause__
    if cause is not None and one_line(cause) not in text:
        text = f"{text} ({one_line(cause)})"
    return text
