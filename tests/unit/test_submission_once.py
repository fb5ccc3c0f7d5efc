"""Loops over one item are their bodies; counters and copies that say nothing go."""

from __future__ import annotations

import ast

import pytest
from submission_programs import printed, special

from golf.submission.once import done_once


def once(body: str) -> str:
    source = "def work(given):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "\n\n"
    source += "print([work(x) for x in (0, 1, 2, 3)])\n"
    tree = ast.parse(source)
    done_once(tree)
    text = ast.unparse(ast.fix_missing_locations(tree))
    assert printed(text) == printed(source)
    return text


@pytest.mark.parametrize(
    "body",
    [
        "for x in [given]:\n    given += x\nreturn given, x",
        "for name, (a, b) in {'one': (given, 2)}.items():\n    given += a\nreturn name, a, b, given",
        "for x in (given + 1,):\n    if x > 2:\n        break\n    given = 7\nreturn given",
        "for x in (given,):\n    if x > 2:\n        given = 5\n        continue\n    else:\n        given += 2\n"
        "    if x < 1:\n        given += 3\n    else:\n        break\n    given *= 3\nreturn given",
        "for x in (given,):\n    if x > 2:\n        break\nreturn given",
        "for x in (given,):\n    for y in range(x):\n        if y > 1:\n            break\n        x += 5\nreturn x",
        "for x in (given,):\n    given += 1\n    break\nreturn given",
        "for x in (given,):\n    break\nreturn x",
    ],
)
def test_a_loop_over_one_item_is_its_body(body):
    text = once(body)
    assert "for x in (g" not in text
    assert "for x in [g" not in text
    assert "for name" not in text


@pytest.mark.parametrize(
    "body",
    [
        "for x in (given, 2):\n    given += x\nreturn given",
        "for x in (*[given],):\n    given += x\nreturn given",
        "for x in (given,):\n    given += 1\nelse:\n    given += 2\nreturn given",
        "for x in (given,):\n    if x:\n        if x > 1:\n            break\n        x += 1\n    x += 5\nreturn x",
        "for x in (given,):\n    if x > 1:\n        given += 1\n        break\n    if x:\n        if x > 0:\n"
        "            continue\n        given = 9\n    given += 1\nreturn given",
        "for x in (given,):\n    with open('/dev/null'):\n        if x:\n            break\n    x += 1\nreturn x",
        "for x in (given,):\n    for y in ():\n        pass\n    else:\n        continue\n    given += 1\nreturn given",
    ],
)
def test_other_loops_stay(body):
    assert "for x in (" in once(body)


def test_nobody_counts_what_nobody_reads():
    text = once(
        "total = 0\nfor i, x in enumerate([given, 4], 1):\n    total += x\nreturn [x for n, x in enumerate([total])]"
    )
    assert "enumerate" not in text


@pytest.mark.parametrize(
    "body",
    [
        "for i, x in enumerate([given, 4]):\n    given += i\nreturn given",
        "for i, x in enumerate([given, 4]):\n    i += 1\nreturn given",
        "for i, x in enumerate([given, 4]):\n    pass\nreturn (lambda: i)()",
        "for i, x in enumerate([given, 4], int(str(given))):\n    pass\nreturn x",
        "enumerate = lambda x: [(1, 2)]\nfor i, x in enumerate([]):\n    given += x\nreturn given",
    ],
)
def test_what_is_read_is_counted(body):
    assert "enumerate(" in once(body) or "enumerate =" in once(body)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("list([given])", "[given]"),
        ("list((given, 2))", "[given, 2]"),
        ("tuple([given])", "(given,)"),
        ("dict({1: given})", "{1: given}"),
        ("sorted(set([given, 2]))", "sorted({given, 2})"),
        ("len(set(list([])))", "len(set())"),
        ("list([x for x in [given]])", "[x for x in [given]]"),
        ("dict([(1, given)])", "dict([(1, given)])"),
        ("tuple(x for x in [given])", "tuple((x for x in [given]))"),
        ("list(range(given))", "list(range(given))"),
    ],
)
def test_displays_are_not_copied(given, wanted):
    assert f"return {wanted}\n" in once(f"return {given}")


def test_what_is_not_pythons_list_copies():
    assert "list([given])" in once("list = len\nreturn list([given])")


def test_an_object_that_a_loop_of_one_does_not_read_goes_with_its_class():
    text = special(
        """
import sys


class Plain:
    def unused(self):
        return 1


def run(what):
    for name, part in {"plain": Plain()}.items():
        # said
        print(name, what)
        if what:
            break
        print(what, name)


run(sys.argv)
run([])
"""
    )
    assert "Plain" not in text
    assert "for" not in text
    assert "if not what:" in text
    assert "# said" in text
