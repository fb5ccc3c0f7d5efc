"""Which parameter is updated by which rule: routed on role, then on a regex over names; nothing is left over.

Invariant: every trainable parameter is in exactly one group; an unrouted parameter and a pattern that matches nothing
are errors (a mistyped pattern would otherwise be a technique that silently does nothing).
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from golf.errors import UserError
from golf.models.roles import roles_of


@dataclass(frozen=True)
class ParameterGroup:
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
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    members: dict[str, list[str]] = {group.name: [] for group in groups}
    for name in trained:
        named = [group for group in groups if group.pattern and re.search(group.pattern, name)]
        matching = [*named, *[group for group in groups if roles[name] in group.roles]]
        if not matching:
            raise UserError(
                f"no optimizer group takes parameter '{name}' (role {roles[name]}): add its role to a group"
            )
        members[matching[0].name].append(name)
    for group in groups:
        if group.pattern and not any(re.search(group.pattern, name) for name in members[group.name]):
            raise UserError(f"optimizer group '{group.name}': pattern '{group.pattern}' matches no parameter")
    return [
        {
            "params": [trained[name] for name in members[group.name]],
            "names": members[group.name],
            "group": group.name,
            "rule": group.rule,
            "base_lr": group.lr,
            "weight_decay": group.weight_decay,
            "betas": (group.beta1, group.beta2),
            "eps": group.eps,
            "step": 0,
        }
        for group in groups
        if members[group.name]
    ]
