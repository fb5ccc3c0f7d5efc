"""Which parameter is updated by which rule: routed on role, then on a regex over names; nothing is left over.

Invariant: every trainable parameter is in exactly one group; an unrouted parameter and a pattern that matches nothing
are errors (a mistyped pattern would otherwise be a technique that silently does nothing).
"""

import re
from typing import Any, NamedTuple

from torch import nn

from golf.errors import UserError
from golf.models.roles import roles_of


class ParameterGroup(NamedTuple):
    """One optimizer group: what its `pattern` (a regex over full names) matches, then what has one of its `roles`.

    `rule` names the update.
    """

    name: str
    rule: str
    lr: float
    roles: tuple[str, ...] = ()
    pattern: str | None = None
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8


def route_parameters(model: nn.Module, groups: list[ParameterGroup]) -> list[dict[str, Any]]:
    """Torch parameter groups (empty ones dropped), each with `names` beside `params`.

    Raises:
        UserError: a parameter that no group takes, or a pattern that matches nothing.
    """
    roles = roles_of(model)
    rest = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = []
    for group in groups:
        own = {name: rest.pop(name) for name in list(rest) if takes(group, name, roles[name], groups)}
        if group.pattern and not any(re.search(group.pattern, name) for name in own):
            raise UserError(f"optimizer group '{group.name}': pattern '{group.pattern}' matches no parameter")
        found.append(
            {
                "params": list(own.values()),
                "names": list(own),
                "group": group.name,
                "rule": group.rule,
                "base_lr": group.lr,
                "weight_decay": group.weight_decay,
                "betas": (group.beta1, group.beta2),
                "eps": group.eps,
                "step": 0,
            }
        )
    if rest:
        name = next(iter(rest))
        raise UserError(f"no optimizer group takes parameter '{name}' (role {roles[name]}): add its role to a group")
    return [group for group in found if group["params"]]


def takes(group: ParameterGroup, name: str, role: str, groups: list[ParameterGroup]) -> bool:
    """Whether a parameter that no group before has taken is one of this group's: a pattern of any goes before roles."""
    named = [other for other in groups if other.pattern and re.search(other.pattern, name)]
    return group in named if named else role in group.roles
