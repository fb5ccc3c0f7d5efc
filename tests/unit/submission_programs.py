"""Small programs and what the specialiser makes of them, for the tests of golf/submission."""

from __future__ import annotations

import ast
import contextlib
import io
import sys
import types

from golf.submission.emit import Original, emitted, same_program
from golf.submission.specialise import specialised


def special(source: str, keep_checks: tuple[str, ...] | None = None) -> str:
    """The readable text of a program after specialising; running both must print the same."""
    tree = ast.parse(source)
    original = Original(source, tree)
    text = emitted(specialised(tree, keep_checks), original)
    assert same_program(text, tree)
    assert printed(text) == printed(source)
    return text


def printed(source: str | bytes) -> str:
    out = io.StringIO()
    module = sys.modules["specialised_program"] = types.ModuleType("specialised_program")  # dataclasses look there
    with contextlib.redirect_stdout(out):
        exec(compile(source, "program", "exec"), module.__dict__)
    del sys.modules["specialised_program"]
    return out.getvalue()
