"""Numbers of names go where the plain name is free, and only there."""

from __future__ import annotations

import ast

import pytest
from submission_programs import printed

from golf.submission.plain_names import without_numbers


def plain(source: str) -> str:
    tree = ast.parse(source)
    without_numbers(tree)
    text = ast.unparse(tree)
    assert printed(text) == printed(source)
    return text


def test_variables_of_a_comprehension_are_its_own():
    text = plain("def f(name):\n    return name, [name_2 + 1 for name_2 in name if name_2]\n\n\nprint(f([1, 2]))\n")
    assert "[name + 1 for name in name if name]" not in text, "the first iterable is the function's"
    text = plain("def f(name, rows):\n    return name, {k_3: v_2 for k_3, v_2 in rows}\n\n\nprint(f(1, [(1, 2)]))\n")
    assert "{k: v for k, v in rows}" in text


def test_variables_of_a_function_lose_numbers_that_say_nothing():
    text = plain(
        "def f(rows):\n    sum_2 = 0\n    best_2_3 = max(rows)\n    return sum_2 + best_2_3\n\n\nprint(f([1]))\n"
    )
    assert "best = max(rows)" in text
    assert "sum_2 = 0" in text, "the builtin would be hidden"


def test_a_comprehension_that_has_the_name_for_itself_is_no_obstacle():
    text = plain("def f(rows):\n    row_2 = 5\n    return row_2 + len([row for row in rows])\n\n\nprint(f([1]))\n")
    assert "row = 5" in text


@pytest.mark.parametrize(
    "body",
    [
        "x_2 = 1\n    x = 2\n    return x_2 + x + a",
        "x_2 = 1\n    return [x_2 + x for x in range(a)]",
        "x_2 = 3\n    return [x for x in range(x_2)] + [x for x in [x for x in (x_2, x_2)]]",
        "x_2 = 1\n    def inner(x):\n        return x_2 + x\n    return inner(a)",
        "x_2 = 1\n    def x():\n        return 5\n    return x() + x_2",
        "x_2 = 1\n    def inner():\n        nonlocal x_2\n        x_2 += 1\n        return x_2\n    return inner()",
        "x_2 = 1\n    def inner(x_2=5):\n        return x_2\n    return inner() + x_2",
        "x_2 = 1\n    return x_2 + len([x_2 for x_2 in range(a)] + [x for x in (1, x_2)])",
        "x_2 = 1\n    try:\n        raise ValueError(a)\n    except ValueError as x:\n        return x_2, x.args",
        "import math as x_2\n    return x_2.floor(a)",
        "x_2 = a\n    return x_2 + GLOBAL",
        "x_2 = a\n    return (lambda x: x + x_2)(1)",
        "return [x_2 + x for x_2 in (1, 2) for x in (3, 4)]",
        "x = 7\n    return [[x for x_2 in (1, 2)] for _ in (1, 2)]",
        "x_2 = 4\n    return [x_2 for x_2 in range(x_2)]",
        "return [(lambda x_2: x_2)(x_2) for x_2 in (1, 2)]",
        "return [[x_2 for x_2 in (x_2, 1)] for x_2 in (1, 2)]",
        "match a:\n        case [x_2, *x]:\n            return x_2, x\n        case x_2:\n            return x_2",
    ],
)
def test_meanings_stay(body: str):
    name = "x_2" if "GLOBAL" in body else "unused"
    source = f"x = 100\nGLOBAL = 9\n\n\ndef f(a):\n    {body}\n\n\nprint(f(3), f(a=4), x, '{name}')\n"
    plain(source.replace("GLOBAL", "x") if "GLOBAL" in body else source)


def test_parameters_keep_their_names():
    assert "def f(x_2)" in plain("def f(x_2):\n    return x_2\n\n\nprint(f(x_2=1))\n")


def test_what_nothing_reads_is_called_so():
    loops = "for a, _ in [(1, 2)]:\n        pass\n    for __2, b in [(3, 4)]:\n        pass\n    return a + b"
    assert "for _, b in" in plain(f"def f():\n    {loops}\n\n\nprint(f())\n")
    for last in ("_", "__2", "(lambda _: _)(1)"):
        assert "for __2, b" in plain(f"def f():\n    {loops} + {last}\n\n\nprint(f())\n")
