"""`build(node, **kwargs)`: the one place that turns a config node into an object.

Wraps hydra.utils.instantiate (plain lists and dicts in, errors that name the config path out), so that a change of
Hydra's semantics is met in one file. For assembly only: it costs milliseconds per tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from golf.errors import GolfError, UserError


def build(node: Any, /, *, path: str = "", **kwargs: Any) -> Any:
    """The object that a node describes; keyword arguments override or add to the node's own.

    `path` names the node in messages (`optim`). None stays None. Raises what the constructor raised if that is one of
    golf's errors, UserError for a ValueError (a value the target refused), and anything else with a note of where.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if node is None:
        return None
    where = path or _path_of(node) or _target_of(node)
    try:
        return instantiate(node, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        below = _full_key(error)
        place = below if below.startswith(where) else ".".join(part for part in (where, below) if part)
        if isinstance(cause, GolfError):
            raise cause from error
        if isinstance(cause, ValueError):
            raise UserError(f"{place}: {_one_line(cause)}") from error
        if cause is None or isinstance(cause, ImportError):
            raise UserError(f"{place}: {_one_line(error)}") from error
        cause.add_note(f"while building {place} ({_target_of(node)})")
        raise cause from error


def _path_of(node: Any) -> str:
    """The path of an OmegaConf node in its config; "" for plain dicts."""
    get = getattr(node, "_get_full_key", None)
    return str(get(None)) if get is not None else ""


def _target_of(node: Any) -> str:
    return str(node.get("_target_", "")) if isinstance(node, Mapping) or hasattr(node, "get") else ""


def _full_key(error: BaseException) -> str:
    """The path below the node at which instantiation failed, from Hydra's `full_key:` line."""
    for line in str(error).splitlines():
        if line.strip().startswith("full_key:"):
            return line.partition(":")[2].strip()
    return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split("\nfull_key:")[0].split())
    return text or type(error).__name__
