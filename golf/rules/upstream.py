"""Packed models that are audited: golf's own, and files of the challenge's scripts (.ptz).

What a .ptz does not say about its network is told with `--upstream KEY=VALUE`, as evaluate.py is told with
`upstream.KEY=VALUE`; the file is read as data, no script of it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.config.nearest import offer
from golf.errors import UserError


def opened(artifact: Path, trusted: Sequence[str], upstream: dict[str, Any]) -> Any:
    """The network of a packed model.

    Raises:
        UserError: it cannot be opened, or settings are missing.
    """
    from golf.loading import open_artifact, open_upstream

    if artifact.suffix != ".ptz":
        return open_artifact(artifact, trusted)[0]
    try:
        return open_upstream(artifact, {**upstream_defaults(), **upstream})[0]
    except UserError as error:
        raise UserError(str(error).replace("upstream.", "--upstream ")) from error


def upstream_defaults() -> dict[str, Any]:
    """What evaluate.py assumes of a file of the challenge's scripts."""
    import yaml

    from golf.config.compose import conf_dir

    return yaml.safe_load((conf_dir() / "evaluate.yaml").read_text(encoding="utf-8"))["upstream"]


def told_of_upstream(texts: Sequence[str]) -> dict[str, Any]:
    """Settings of `--upstream`.

    Raises:
        UserError: no such setting.
    """
    import yaml

    known, found = upstream_defaults() if texts else {}, dict[str, Any]()
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            raise UserError(f"--upstream {text}: {offer(key, known)}; type --upstream experiment=<experiment>")
        found[key] = yaml.safe_load(value)
    return found
