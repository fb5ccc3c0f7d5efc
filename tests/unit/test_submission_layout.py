"""How the exported program is laid out: brackets hugged, short items sharing lines, and always the same program."""

from __future__ import annotations

import ast

import pytest
from submission_programs import special

from golf.submission.emit import filled, tidy, wrapped


def test_short_items_share_lines_and_long_ones_do_not():
    long = ", ".join(
        [*(f'"{name}": {number}' for number, name in enumerate("abcdefghijklmnopqrstuvwxyz")), f'"x{"y" * 60}": 1']
    )
    lines = wrapped(f"table = {{{long}}}", 0)
    assert len(lines) == 5
    assert lines[1].startswith('    "a": 0, "b": 1, ')
    assert lines[3].strip() == f'"x{"y" * 60}": 1,'
    assert max(map(len, lines)) <= 120
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(f"table = {{{long}}}"))


def test_what_is_broken_shares_no_line():
    lines = ["    a,", "    f(", "        b,", "    ),", "    c,", "    d,"]
    assert filled(lines, 4) == ["    a,", "    f(", "        b,", "    ),", "    c, d,"]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("found.append({%s})", "found.append({", "})"),
        ("x = outer(inner(%s))", "x = outer(inner(", "))"),
        ("x = outer((%s)).size", "x = outer((", ")).size"),
        ("x = outer(inner(%s)[0])", "x = outer(", ")"),
        ("x = outer(inner(%s), 1)", "x = outer(", ")"),
        ("x = outer(inner(1), inner(%s) + 1)", "x = outer(", ")"),
    ],
)
def test_the_only_argument_hugs_the_brackets_of_its_call(text, first, last):
    items = ", ".join(f"some_long_name_of_an_item_{i}" for i in range(9))
    lines = wrapped(text % items, 0)
    assert (lines[0], lines[-1]) == (first, last)
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(text % items))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("x = (f(a), g(b))", "x = f(a), g(b)"),
        ("x = (f(a, b, c, d, e), g(a, b, c, d, e))", "x = (f(a, b, c, d, e), g(a, b, c, d, e))"),
        ("x = (f(a, b, c, d, e, f, g, h, i, k), a)", "x = f(a, b, c, d, e, f, g, h, i, k), a"),
    ],
)
def test_a_tuple_keeps_its_brackets_where_it_is_broken_between_its_items(given, wanted):
    assert tidy(given, 30) == wanted


def test_a_text_too_long_for_any_line_is_not_broken():
    assert len(wrapped(f'raise ValueError("{"x" * 130}")', 4)) == 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("x = sum((a for a in b))", "x = sum(a for a in b)"),
        ("x = f(sorted((a for a in (b or c))))", "x = f(sorted(a for a in (b or c)))"),
        ("x = sum((a for a in b), 3)", "x = sum((a for a in b), 3)"),
        ("x = max(*((a for a in b)))", "x = max(*((a for a in b)))"),
        ("x = f((1, [a for a in b]))", "x = f((1, [a for a in b]))"),
        ("x = f((a + b) * 2)", "x = f((a + b) * 2)"),
    ],
)
def test_generators_have_one_pair_of_brackets(given, wanted):
    assert tidy(given) == wanted
    assert ast.dump(ast.parse(given)) == ast.dump(ast.parse(wanted))


def test_what_was_written_line_by_line_is_written_anew_if_nothing_is_lost():
    text = special("SIZES = {\n    'a': 1,\n    'b': 2,\n    'c': 3,\n}\nprint(list(SIZES.items()))\n")
    assert 'SIZES = {"a": 1, "b": 2, "c": 3}' in text


@pytest.mark.parametrize("entry", ["'b': 2_000", "'b': 1e-8", "'b': 2,  # why"])
def test_comments_and_numbers_stay_as_they_were_written(entry):
    source = f"SIZES = {{\n    'a': 1,\n    {entry}\n}}\nprint(list(SIZES.items()))\n"
    assert entry in special(source)
