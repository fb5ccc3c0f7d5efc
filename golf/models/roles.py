"""Roles of parameters: what optimizer groups and quantisation plans route on, instead of lists of names.

Each module class (or a single module) declares its own parameters in `roles = {parameter name: role}`.
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
    for name, _ in model.named_parameters():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        declared = getattr(module, "roles", {})
        if declared.get(own) not in ROLES:
            raise UserError(
                f"parameter '{name}' has no role: declare roles = {{'{own}': one of {', '.join(ROLES)}}} "
                f"in class {type(module).__name__}"
            )
        found[name] = declared[own]
    return found
