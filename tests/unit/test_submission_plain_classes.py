"""Classes without state become functions, classes with one heir become that heir; nobody else is touched."""

from __future__ import annotations

import ast

import pytest
from submission_programs import printed, special

from golf.submission.plain_classes import without_needless_classes


def plain(source: str) -> str:
    tree = ast.parse(source)
    without_needless_classes(tree)
    text = ast.unparse(ast.fix_missing_locations(tree))
    assert printed(text) == printed(source)
    return text


TOOL = """
LIMIT = 5


class FineTool:
    "Cuts."

    def _cut(self, text, limit=LIMIT):
        if not text:
            return "nothing"
        return text[:limit]
"""


def test_methods_that_ignore_their_object_are_functions():
    text = plain(TOOL + "\nprint(FineTool()._cut('abcdefg'), [FineTool()._cut(t, 2) for t in ('', 'abc')])\n")
    assert "class" not in text
    assert 'def _cut(text, limit=LIMIT):\n    """Cuts."""' in text


def test_what_is_called_itself_is_named_after_its_class():
    text = plain("class FineTool:\n    def __call__(self, x):\n        return x + 1\n\n\nprint(FineTool()(2))\n")
    assert "print(fine_tool(2))" in text


def test_a_name_that_is_taken_is_not_given_again():
    text = plain(
        "def cut(x):\n    return x\n\n\nclass Tool:\n    def cut(self, x):\n        return cut(x) + 1\n\n\n"
        "print(Tool().cut(2), cut(2))\n"
    )
    assert "print(tool(2), cut(2))" in text
    assert "def min(" not in plain("class T:\n    def min(self, x):\n        return x\n\n\nprint(T().min(2))\n")


@pytest.mark.parametrize(
    "source",
    [
        TOOL + "tool = FineTool()\nprint(tool._cut('abcdefg'))\n",
        TOOL + "print(isinstance(2, FineTool), FineTool()._cut('a'))\n",
        TOOL + "print(FineTool()._cut.__name__)\n",
        TOOL + "print(FineTool._cut(None, 'a'))\n",
        TOOL.replace("text[:limit]", "self._cut('')") + "print(FineTool()._cut('a'))\n",
        TOOL.replace("def _cut", "size = 3\n\n    def _cut") + "print(FineTool()._cut('a'))\n",
        TOOL.replace("def _cut", "@staticmethod\n    def _cut")
        + "print(FineTool()._cut('a', 'b'[1:]))\n".replace("'b'[1:]", "1"),
        TOOL.replace("FineTool:", "FineTool(dict):") + "print(FineTool()._cut('a'))\n",
        TOOL + "print(FineTool()._cut('a'), FineTool().__class__.__name__)\n",
        TOOL.replace("def _cut", "def __len__(self):\n        return 0\n\n    def _cut")
        + "print(FineTool()._cut('a'))\n",
    ],
)
def test_classes_that_somebody_could_tell_from_functions_stay(source):
    if "staticmethod" in source:
        source = source.replace("def _cut(self, ", "def _cut(")
    assert "class FineTool" in plain(source)


def test_the_only_heir_takes_over_what_its_base_has():
    text = plain(
        """
class Base(Exception):
    "Any."
    code: int = 1
    kind = "base"

    def say(self):
        return f"{self.kind} {self.code} {super().__str__()}"


class Heir(Base):
    "One."
    kind = "heir"


try:
    raise Heir("x")
except (Base, OSError) as error:
    print(error.say(), isinstance(error, Base), type(error).__name__)
"""
    )
    assert "class Heir(Exception)" in text
    assert "Base" not in text
    assert "Any" not in text


HEIR = """
class Base:
    size = 1

    def __init__(self, x):
        self.x = x

    def say(self):
        return self.x


class Heir(Base):
    pass


print(Heir(2).say())
"""


def test_an_empty_heir_is_its_base():
    assert "class Heir:" in plain(HEIR)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("print(", "print(Base(1).say(), "),
        ("print(", "print(Base.size, "),
        ("print(", "class Other(Base):\n    size = 2\n\n\nprint(Other(1).size, "),
        ("    pass", "    def say(self):\n        return super().say() + 1"),
        ("    pass", "    twice = [size for size in (1, 2)]"),
        ("print(", "print(Heir.__mro__[1].__name__, "),
        ("print(", "print('size' in vars(Heir), "),
        ("size = 1", "size = len([0])\n    twice = 2 * size"),
        ("class Base:", "from dataclasses import dataclass\n\n\n@dataclass(init=False)\nclass Base:"),
    ],
)
def test_classes_that_somebody_could_tell_from_their_heir_stay(old, new):
    assert "class Base" in plain(HEIR.replace(old, new))


def test_a_name_that_a_member_would_hide_keeps_two_classes():
    source = "size = 7\n\n\n" + HEIR.replace("    pass", "    twice = 2 * size").replace("print(", "print(Heir.twice, ")
    assert "class Base" in plain(source)


def test_only_the_program_raises_its_own_errors():
    text = special(
        """
import sys


class Wrong(Exception):
    exit_code = 2


def run(x):
    if x:
        raise Wrong("no")


try:
    run(sys.argv)
except Wrong as error:
    print(error, error.exit_code)
"""
    )
    assert "print(error, 2)" in text


def test_the_code_of_several_errors_is_asked_for():
    text = special(
        """
import sys


class Wrong(Exception):
    exit_code = 1


class Worse(Wrong):
    exit_code = 2


def run(x):
    raise Worse("no") if x else Wrong("no")


for x in (sys.argv, []):
    try:
        run(x)
    except Wrong as error:
        print(error, error.exit_code)
"""
    )
    assert "error.exit_code" in text


KEPT = """
print({"a": FineTool()._cut, 1: 2}["a"]("abcdefg"))
"""


def test_a_method_that_a_dict_keeps_is_a_function():
    assert "{'a': _cut, 1: 2}['a']" in plain(TOOL + KEPT)


@pytest.mark.parametrize(
    "use",
    [
        KEPT.replace("FineTool()._cut", "(FineTool()._cut,)[0]"),
        KEPT.replace('{"a": FineTool()._cut, 1: 2}["a"]', "FineTool()._cut.__call__"),
        KEPT + "class Other:\n    cut = FineTool()._cut\n\n\nprint(Other().cut('abcdefg'))\n",
        KEPT + "print(type('Other', (), {'cut': FineTool()._cut})().cut('abcdefg'))\n",
        "print({'a': FineTool()._cut}['a'].__self__ is None)\n",
        "print(len({FineTool()._cut: 1}))\n",
    ],
)
def test_other_methods_that_are_not_called_stay(use: str):
    assert "class FineTool" in plain(TOOL + use)
