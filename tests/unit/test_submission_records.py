"""Records that stay in the function they are made in become variables; those that do not stay as they are."""

from __future__ import annotations

import ast

import pytest
from submission_programs import printed, special

from golf.submission.records import split_records

HEAD = """
import sys
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple


class Pair(NamedTuple):
    left: int
    right: int = 2

    @property
    def total(self):
        return self.left + self.right


@dataclass(frozen=True)
class Box:
    size: int
    kind: ClassVar[str] = "box"
    labels: list = field(default_factory=list)


@dataclass
class Checked:
    size: int

    def __post_init__(self):
        self.size += 1


def noted(value, order=[]):
    order.append(value)
    print(order)
    return value


"""


def split(body: str) -> str:
    source = HEAD + "def work(size):\n" + body + "\n\nprint(work(len(sys.argv) - len(sys.argv) + 3))\n"
    tree = ast.parse(source)
    split_records(tree)
    text = ast.unparse(ast.fix_missing_locations(tree))
    assert printed(text) == printed(source)
    return text[text.index("def work") :]


def test_fields_become_variables_in_the_order_of_the_call():
    text = split("    pair = Pair(right=noted(size), left=noted(size + 1))\n    return pair.left - 2 * pair.right")
    assert "Pair(" not in text
    assert text.index("right = noted(size)") < text.index("left = noted(size + 1)")


def test_defaults_that_are_constants_are_written_down():
    assert "right = 2" in split("    pair = Pair(size)\n    return [pair.right + n for n in range(pair.left)]")


def test_names_that_mean_something_else_are_kept():
    text = split("    left, sys = 5, 6\n    pair = Pair(size)\n    return left + pair.left + sys")
    assert "pair_left = size" in text


@pytest.mark.parametrize(
    "body",
    [
        "    pair = Pair(size)\n    return pair",
        "    pair = Pair(size)\n    return pair.total + pair.left",
        "    pair = Pair(*(size, 1))\n    return pair.left",
        "    pair = Pair(size)\n    pair = pair._replace(left=9)\n    return pair.left",
        "    pair = Pair(size)\n    if size > 3:\n        pair = Pair(1)\n    return pair.left",
        "    box = Box(size)\n    return box.size + len(box.labels)",
        "    box = Box(size, [])\n    return str(box.size) + box.kind",
        "    box = Checked(size)\n    return box.size",
        "    for n in (1, 0):\n        try:\n            pair = Pair(n, 1 // n)\n        except ZeroDivisionError:\n"
        "            pass\n    return pair.left",
        "    def inner(pair):\n        return pair.left\n    pair = Pair(size)\n    return pair.left + inner(Pair(1))",
    ],
)
def test_what_is_more_than_its_fields_stays(body):
    made = "Checked(" if "Checked" in body else "Box(" if "Box" in body else "Pair("
    assert made in split(body)


def test_a_class_that_is_rebound_stays():
    source = HEAD + "def work():\n    pair = Pair(1)\n    return pair.left\n\n\nPair = max\n"
    tree = ast.parse(source)
    split_records(tree)
    assert ast.dump(tree) == ast.dump(ast.parse(source))


def test_the_class_goes_with_its_last_record():
    body = "def work(size):\n    pair = Pair(size, size + 1)\n    for n in range(size):\n        print(pair.left, n)\n"
    text = special(HEAD + body + "    return pair.right\n\n\nprint(work(len(sys.argv)))\n")
    assert "Pair" not in text
