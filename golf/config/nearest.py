"""Nearest valid names: what a message offers instead of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """The valid names closest to `name`, best first; empty when none is similar."""
    names = sorted(set(valid))
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.6)
    contained = [candidate for key, candidate in lowered.items() if len(name) > 2 and name.lower() in key]
    return list(dict.fromkeys([*(lowered[key] for key in found), *sorted(contained)]))[:count]


def offer(name: str, valid: Iterable[str], limit: int = 12) -> str:
    """One clause: `nearest: a, b` when something is similar, else `allowed: …` (shortened to `limit` names)."""
    names = sorted(set(valid))
    close = nearest(name, names)
    if close:
        return "nearest: " + ", ".join(close)
    if not names:
        return "there is nothing to choose from"
    return "allowed: " + ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
