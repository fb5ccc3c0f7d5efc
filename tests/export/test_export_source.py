"""Which definitions and methods go along, and that cutting them out leaves the others as they were written."""

from __future__ import annotations

from pathlib import Path

from golf.submission.flatten import Reached
from golf.submission.source import CoreModule, owners_of_names

SHAPES = '''"""Shapes."""

from typing import Protocol

from torch import nn

SIDES = 4


class Round(Protocol):
    """Only a type."""


# About the base.
class Base(nn.Module):
    def forward(self, x):
        return x


class Square(Base):
    """A square."""

    def forward(self, x):
        return x * SIDES

    def unused_here_but_torch_may_call_it(self):
        return None


class Own:
    """Own."""

    size = 1

    # About the first.
    def unused(self) -> Round:
        return shrink(self)

    def used(self, round: "Round | None" = None, other: Round | None = None) -> int:
        # "ü" is two bytes
        return self.size

    def by_name(self):
        from golf.models.words import greet

        return greet()

    @property
    def last(self):
        return 0


def shrink(x):
    return x
'''
WORDS = '''"""Words."""

from golf.models.shapes import Own, Square


def greet():
    return "hello"


def main():
    """Start."""
    own = Own()
    return Square(), own.used(), getattr(own, "by_name")
'''


def reached(tmp_path: Path, *names: str) -> tuple[Reached, dict[str, CoreModule]]:
    modules = {}
    for name, text in (("shapes", SHAPES), ("words", WORDS)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        modules[name] = CoreModule(f"golf.models.{name}", tmp_path / f"{name}.py")
    found = Reached(owners_of_names(modules.values()), modules.values())
    found.follow(names)
    return found, modules


def test_what_is_referred_to_is_taken(tmp_path):
    found, _ = reached(tmp_path, "main")
    assert found.present == {"main", "greet", "Own", "Square", "Base", "SIDES"}
    assert found.methods["Own"] == {"used", "by_name"}


def test_classes_from_elsewhere_keep_all_methods(tmp_path):
    found, modules = reached(tmp_path, "main")
    text = found.section(modules["shapes"])
    assert text.count("def forward") == 2
    assert "unused_here_but_torch_may_call_it" in text


def test_the_rest_is_left_as_it_was_written(tmp_path):
    found, modules = reached(tmp_path, "main")
    text = found.section(modules["shapes"])
    assert (
        text
        == '''

# ----- golf.models.shapes
# Shapes.

SIDES = 4


# About the base.
class Base(nn.Module):
    def forward(self, x):
        return x


class Square(Base):
    """A square."""

    def forward(self, x):
        return x * SIDES

    def unused_here_but_torch_may_call_it(self):
        return None


class Own:
    """Own."""

    size = 1

    def used(self, round: "Any | None" = None, other: Any | None = None) -> int:
        # "ü" is two bytes
        return self.size

    def by_name(self):
        return greet()
'''
    )
    assert found.import_lines({}) == "from typing import Any\n\nfrom torch import nn\n"
