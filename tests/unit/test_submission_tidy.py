"""What is assigned together stands apart where it is long; what only says `ClassVar` goes."""

from __future__ import annotations

import pytest
from submission_programs import special

LONG = "sorted(str(value) + str(sys.maxsize) for value in values)"
PAIR = f"""
import sys


def f(values, flag):
    first, second = {LONG}, {LONG}
    for word in first:
        print(word, first, second)
    return second, flag, first


for flag in (1, 2):
    print(f([flag, sys.maxsize], flag), f([], flag))
"""


def test_a_long_pair_becomes_two_statements():
    text = special(PAIR)
    assert f"    first = {LONG}\n    second = {LONG}\n" in text
    assert "first, second = " in special(PAIR.replace(LONG, "sorted(values)"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f", {LONG}", ", [str(sys.maxsize) + str(value) * 1 for value in values if values.count(first) == flag * 0]"),
        (f"{LONG}, ", f"{LONG}, *[[value, str(sys.maxsize)] for value in values[:0]], "),
        ("    first, second", "    first = 1\n    print(lambda: first)\n    first, second"),
    ],
)
def test_pairs_of_which_one_may_need_the_other_stay(old: str, new: str):
    source = PAIR.replace(old, new, 1).replace("    first, second", "    first = flag\n    first, second", 1)
    assert "first, second = " in special(
        source.replace("print(lambda: first)", "values.sort(key=lambda x: (first, x))")
    )


def test_pairs_in_a_trial_stay_together():
    body = f"    first, second = {LONG}, {LONG}"
    tried = f"    first = 3\n    try:\n    {body}\n    except TypeError:\n        print(first)\n        raise"
    assert "first, second = " in special(PAIR.replace(body, tried))


CLASSES = """
from dataclasses import dataclass
from typing import ClassVar, NamedTuple


@dataclass(frozen=True)
class Plain:
    size: int
    kind: ClassVar[str] = "plain"

    def shown(self):
        return self.kind, self.size


class Row(NamedTuple):
    size: int
    kind: ClassVar[str] = "row"


for size in (1, 2):
    for kind in (Plain, Row):
        item = kind(size)
        print(item, item.kind, item == kind(1))
"""


def test_class_variables_need_no_annotation_but_in_tuples():
    text = special(CLASSES)
    assert '    kind = "plain"' in text
    assert 'kind: ClassVar[str] = "row"' in text
