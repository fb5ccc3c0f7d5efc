"""Search space of a sweep: Hydra's `interval`, `range`, lists and `tag(log, …)` as Optuna's distributions.

Invariant: a range ends where Hydra's grid ends (before its stop), and every value becomes the override that was typed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from golf.errors import UserError


def search_space(overrides: Sequence[str], loader: Any) -> tuple[dict[str, Any], list[str]]:
    """Key → distribution for what is swept, and the overrides that are fixed.

    Raises:
        UserError: nothing is swept, or a sweep that has no distribution.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    swept: dict[str, Any] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = override.get_key_element()
        swept.pop(key, None)  # the command line comes after hydra.sweeper.params and wins
        fixed.pop(key, None)
        if override.is_sweep_override():
            swept[key] = distribution(override, key)
        else:
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
    if not swept:
        raise UserError(
            "hydra/sweeper=optuna: nothing to search; type for example 'optim.matrix_lr=tag(log,interval(0.01,0.1))'"
        )
    return swept, list(fixed.values())


def distribution(override: Any, key: str) -> Any:
    """Optuna's distribution of one swept override."""
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep, Transformer
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        if low is None or high is None or low >= high or (log and low <= 0):
            above = " above 0" if log else ""
            raise UserError(f"{key}=interval({low},{high}): the first number must be below the second{above}")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(value, RangeSweep) and not value.shuffle and value.step and value.step > 0:
        start, stop, step = value.start, value.stop, value.step
        if start is not None and stop is not None and start < stop:
            last = start + step * (math.ceil((stop - start) / step - 1e-9) - 1)
            if all(isinstance(number, int) for number in (start, stop, step)):
                return IntDistribution(int(start), int(last), step=int(step))
            return FloatDistribution(float(start), float(last), step=float(step))
    if isinstance(value, ChoiceSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_iterator(transformer=Transformer.encode)))
    raise UserError(
        f"{override.input_line}: not a sweep that can be searched; type {key}=interval(…), range(…) or a,b,c"
    )
