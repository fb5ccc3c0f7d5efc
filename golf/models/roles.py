"""Roles of parameters: what optimizer groups and quantisation plans route on, instead of lists of names.

Each module class declares its own parameters in `roles = {parameter name: role}`.
Invariant: every parameter of a model has exactly one role; a parameter without one is an error.
"""

from torch import nn

from golf.errors import UserError

ROLES = ("matrix", "embedding", "head", "scalar", "table", "gate")


def roles_of(model: nn.Module) -> dict[str, str]:
    """Map each parameter name (shared parameters once, under their first name) to its role.

    Raises:
        UserError: a parameter whose module declares no role for it, or declares an unknown role.
    """
    found: dict[str, str] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        declared = getattr(type(module), "roles", {})
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full = f"{prefix}.{name}" if prefix else name
            role = declared.get(name)
            if role not in ROLES:
                raise UserError(
                    f"parameter '{full}' has no role: declare roles = {{'{name}': one of {', '.join(ROLES)}}} "
                    f"in class {type(module).__name__}"
                )
            found[full] = role
    return found
