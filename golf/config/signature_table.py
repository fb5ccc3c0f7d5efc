"""Writes `signatures.json`: what Lightning's Trainer, callbacks, loggers and profilers accept.

`python -m golf.config.signature_table` (imports lightning: seconds). Checks read the table instead, so that a config
error shows before anything heavy is imported; a test compares the table with the installed release.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from typing import Any

from golf.config.signatures import TABLE

MODULES = ("lightning.pytorch.callbacks", "lightning.pytorch.loggers", "lightning.pytorch.profilers")
_LITERALS = (str, int, float, bool, type(None))
SINGLE = tuple(
    f"lightning.pytorch.{name}" for name in ("Trainer", "Callback", "LightningModule", "LightningDataModule")
)


def _annotation(parameter: inspect.Parameter) -> str | None:
    """The annotation as an expression that `ast` can parse, or None."""
    if parameter.annotation is inspect.Parameter.empty:
        return None
    text = inspect.formatannotation(parameter.annotation).replace("typing.", "")
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return None
    return text


def describe(target: Any) -> dict[str, Any]:
    """Parameters of a class's constructor: name, annotation, required; and whether any further keyword is accepted."""
    parameters = list(inspect.signature(target).parameters.values())
    keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        "parameters": [
            {"name": p.name, "annotation": _annotation(p), "required": p.default is inspect.Parameter.empty}
            | ({"default": repr(p.default)} if isinstance(p.default, _LITERALS) else {})
            for p in parameters
            if p.kind in keyword
        ],
        "open_keys": any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
    }


def build_table() -> dict[str, Any]:
    """The whole table from the installed Lightning."""
    names = list(SINGLE)
    for module in MODULES:
        exported = importlib.import_module(module).__all__
        names += [f"{module}.{name}" for name in exported]
    targets = {}
    for name in sorted(set(names)):
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        if inspect.isclass(found):
            targets[name] = describe(found)
    version = importlib.import_module("lightning").__version__
    return {"lightning": version, "targets": targets}


def main() -> None:
    text = json.dumps(build_table(), indent=1, sort_keys=True) + "\n"
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
