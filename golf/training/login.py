"""Is there a login for Weights & Biases? Answered from files and the environment: no network, no prompt, no import.

Invariant: what is asked here before a run starts is what W&B itself looks for (environment, then netrc), so that a run
without a login ends before anything else has been done.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from golf.errors import UserError

WITHOUT_LOGIN = ("offline", "disabled", "dryrun")
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def wandb_mode(offline: bool = False) -> str:
    """online | offline | disabled: the option's own `offline`, and WANDB_MODE, which may only take away."""
    asked = os.environ.get("WANDB_MODE", "")
    if asked == "disabled":
        return "disabled"
    return "offline" if offline or asked in WITHOUT_LOGIN else "online"


def wandb_login() -> str | None:
    """Where the credentials are: a variable's name or a netrc file; None without any."""
    for name in KEYS:
        if os.environ.get(name):
            return name
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    home = Path.home()
    named = os.environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        try:
            found = netrc.netrc(path).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return str(path)
    return None


def require_login(loggers: Mapping[str, Any]) -> None:
    """Refuse the `logger` group's online W&B nodes where nobody is logged in.

    Raises:
        UserError: what to type instead.
    """
    for name, node in loggers.items():
        if not isinstance(node, Mapping) or node.get("_target_") != "golf.training.loggers.wandb_logger":
            continue
        if wandb_mode(bool(node.get("offline"))) == "online" and wandb_login() is None:
            raise UserError(
                f"logger.{name}: no W&B login was found (no {KEYS[0]}, nothing in netrc); type wandb login, or "
                "logger=wandb_offline to write locally and upload later with wandb sync"
            )
