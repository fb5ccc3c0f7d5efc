"""How exported programs are written: as they were, formatted anew, or packed; and that the cache changes nothing."""

from __future__ import annotations

import ast
import lzma
import re
import zlib
from pathlib import Path

import pytest
from submission_programs import printed, special

from golf.submission.emit import indented_by_tabs
from golf.submission.mixing import decoded, encoded
from golf.submission.pack import HEAD, TAIL, escaped, minified, packed, unpacked
from golf.submission.positional import positional
from golf.submission.rename import renamed
from golf.submission.stored import cache_folder, stored
from golf.submission.types import without_types
from golf.submission.walk import copied


def test_what_is_not_touched_stays_as_it_was_written():
    text = special(
        '''
# ---------------------------------------- first
# About this module.
#
# And more.

import sys

LIMIT = 3  # of everything


def run(x):
    """The first paragraph
    of a docstring.

    Args:
        x: a number.
    """
    # why this is done
    found = {"a": x,
             "b": 'quoted'}
    if LIMIT > 5:
        return None
    return found  # the end


print(run(len(sys.argv) * 0), LIMIT)
'''
    )
    assert "About this module" not in text
    assert '    """The first paragraph of a docstring."""\n' in text
    assert '    # why this is done\n    found = {"a": x,\n             "b": \'quoted\'}\n' in text
    assert "return found  # the end" in text
    assert "return None" not in text


def test_long_lines_are_broken():
    long = ", ".join(f"argument_{i}" for i in range(12))
    text = special(
        f"def run({long}, gone=None):\n    return sum([{long}], 2 if gone is None else 3)\n\n\nprint(run(*range(12)))\n"
    )
    assert max(map(len, text.splitlines())) <= 120


def test_a_long_comprehension_is_one_piece():
    names = ", ".join(f"some_rather_long_name_{i}" for i in range(4))
    long = f"{{({names}): 0 for {names} in [tuple(range(len(sys.argv) * 0, 4))]}}"
    text = special(
        f"import sys\n\n\ndef run():\n    gone = None\n    return [{long}, gone is None]\n\n\nprint(run())\n"
    )
    assert "gone" not in text


def test_packing_is_deterministic_and_runs():
    source = "def main():\n    total = sum(range(10))\n    print(total, __name__)\n\n\nmain()\n"
    code = packed(source)
    assert code == packed(source)
    assert printed(code) == printed(source)
    assert printed(unpacked(code) or "") == printed(source)
    assert unpacked(source.encode()) is None


def test_every_byte_survives_in_a_literal():
    content = bytes(range(256)) + b"\\01\0001\\n'\r\n" + bytes(range(255, -1, -1))
    for end in (b"", b"'", b"\\", b"''", b"'''", b"'\n"):
        literal = b"'''" + escaped(content + end) + b"'''"
        assert b"\r" not in literal
        assert b"\0" not in literal
        assert ast.literal_eval(literal.decode("latin-1")).encode("latin-1") == content + end


def test_any_text_survives_mixing_whatever_is_behind_it():
    for text in (b"", b"x", b"\xff" * 400, bytes(range(1, 256)), b"def f(x):\n\treturn [x, (x)]\n" * 9):
        for known in (b"", b"def g(y):\n"):
            content = encoded(text, known)
            assert all(decoded(content + behind * 8, known) == text for behind in (b"\1", b"x", b"\xff"))
            assert not set(content) & set(b"\0\r\\"), "these would be two characters in a literal"
    with pytest.raises(ValueError, match="bytes that are 0"):
        encoded(b"a\0b", b"")


def test_what_is_known_makes_the_text_shorter():
    text = Path(ast.__file__).read_bytes()[:600]
    assert len(encoded(text, text)) < 0.5 * len(encoded(text, b""))


def test_mixing_is_much_smaller_than_lzma():
    text = Path(ast.__file__).read_bytes()[:6000]
    assert len(encoded(text, b"")) < 0.88 * len(lzma.compress(text, format=lzma.FORMAT_ALONE, preset=9))


def test_a_file_with_another_decoder_is_not_read():
    """It could run something else than what is in its literal."""
    code = packed("print(1)\n")
    begin = int(re.findall(rb"z\[(\d+):", code)[-1])
    literal = ast.literal_eval(code[code.index(b"'''") : code.rindex(b"'''") + 3].decode("latin-1")).encode("latin-1")
    foreign = literal[:begin] + zlib.compress(b"print(2)")
    assert printed(unpacked(code) or "") == "1\n"
    assert unpacked(HEAD + escaped(foreign) + TAIL % begin) is None
    assert unpacked(code + b"print(2)\n") is None


NAMES = """
from dataclasses import asdict, dataclass

import torch
from torch import nn


@dataclass
class Settings:
    learning_rate: float = 0.5


class Layer(nn.Module):
    def __init__(self, hidden_width):
        super().__init__()
        self.projection = nn.Linear(hidden_width, 1)

    def forward(self, x_BTD):
        return self.helper_method(x_BTD=x_BTD)

    def helper_method(self, x_BTD):
        return self.projection(x_BTD)


def summed(first_value, *, second_value=2):
    return first_value + second_value


layer = Layer(hidden_width=3)
print(sorted(layer.state_dict()), layer(torch.ones(2, 3)).shape, asdict(Settings()), summed(1, second_value=4))
print(getattr(layer, "helper_method")(torch.ones(1, 3)).shape)
"""


def test_names_that_others_know_stay():
    text = ast.unparse(renamed(ast.parse(NAMES)))
    assert printed(text) == printed(NAMES)
    for kept in ("projection", "forward", "learning_rate", "helper_method"):
        assert kept in text
    for gone in ("first_value", "second_value", "hidden_width", "summed"):
        assert gone not in text


def test_types_go_but_those_of_fields():
    source = """
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Point:
    x: int
    y: int = 2


class Box:
    size: int = 3


def total(values: Sequence[int]) -> int:
    found: int = sum(values)
    return found


print(total([Point(1).y, Box.size]), Point(4))
"""
    text = ast.unparse(without_types(ast.parse(source)))
    assert printed(text) == printed(source)
    assert "Sequence" not in text
    assert "def total(values):" in text
    assert "x: int" in text


def test_the_cache_gives_what_was_made_and_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[str] = []

    def make(source: str) -> bytes:
        made.append(source)
        return source.upper().encode()

    assert [stored("test", "a", make) for _ in range(2)] == [b"A", b"A"]
    assert made == ["a"]
    (file,) = cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"B")
    assert stored("test", "a", make) == b"A"
    assert made == ["a", "a"]


def test_without_a_cache_folder_nothing_is_lost(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert stored("test", "b", str.encode) == b"b"


def test_copies_of_a_tree_share_what_every_tree_shares():
    """python-minifier leaves a reference to its tree on the interpreter's one `Load`."""
    node = ast.parse("f(x, *y)[1:]", mode="eval").body
    again = copied(node)
    assert ast.dump(again, include_attributes=True) == ast.dump(node, include_attributes=True)
    assert again is not node
    assert again.value.func is not node.value.func
    assert again.value.func.ctx is node.value.func.ctx


def test_packing_keeps_names_that_the_program_reads():
    """Of classes, of a partial's keywords, and of attributes whose names are put together."""
    source = """
from functools import partial


class Rounded:
    def __init__(self):
        self.step_coarse, self.step_fine = 4, 1


def scaled(value, factor, shift=0):
    return value * factor + shift


made, double = Rounded(), partial(scaled, factor=2, shift=1)
for kind in ("coarse", "fine"):
    print(type(made).__name__, getattr(made, "step_" + kind), double(3), sorted(double.keywords))
"""
    assert printed(unpacked(packed(source))) == printed(source)


def test_packing_keeps_attributes_of_what_others_made():
    """`nn.Linear` sets `in_features` in its constructor; a parameter of the program has the same name."""
    source = """
from torch import nn


def grown(in_features, times):
    return in_features * times


linear = nn.Linear(2, 3)
print(grown(linear.in_features, 2), linear.out_features)
"""
    assert printed(unpacked(packed(source))) == printed(source)


def test_lines_are_indented_by_tabs_but_not_inside_of_strings():
    text = 'def f():\n    """A\n    b."""\n    if 1:\n        return ("x",\n                  f"""y\n    {1}""")\n'
    found = indented_by_tabs(text + "print(f())\n")
    assert '\n\tif 1:\n\t\treturn ("x",\n\t\t\t\t  f"""y\n    {1}""")\n' in found
    assert printed(found) == printed(text + "print(f())\n")


def test_variables_that_only_pass_a_value_on_go():
    text = special(
        """
import sys


def take(items):
    found = items
    total = len(found) + len(sys.argv) * 0
    doubled = total * 2
    return doubled


class Kept:
    def __init__(self):
        pass

    def count(self, n):
        first = n
        n = n + 1
        return first, n


print(take(sys.argv[:0]), Kept().count(len(sys.argv) * 0))
"""
    )
    assert "return (len(items) + len(sys.argv) * 0) * 2" in text
    assert "first = n" in text  # n is another one afterwards
    assert "__init__" not in text


ORDER = """
import sys

log = []


def note(x):
    log.append(x)
    return x


def changed():
    state = [0]

    def step():
        nonlocal count
        count += 1
        return count

    count = len(sys.argv) * 0
    before = step()
    pair = (count, before)
    late = note(1)
    done = (note(2), late)
    kept = count
    again = [kept for _ in range(2)]
    step()
    return pair, done, again, kept, state


def loop(items):
    last = None
    for item in items:
        previous = last
        last = item
        log.append(previous)
    return last


print(changed(), loop([1, 2, 3]), log)
"""


def test_values_that_are_passed_on_keep_their_order():
    special(ORDER)  # which compares what both print


def test_known_values_are_written_into_texts():
    text = special(
        """
import sys

NAME, WIDTH = "zlib", 3.5


class Own(Exception):
    pass


def run(n):
    try:
        unread = {"a": n}["a"]
        for item in {}.items():
            print(item)
        return f"{NAME}: {WIDTH:.2f} {{}} {n:>{len(NAME)}} {'' if WIDTH else n}!"
    except Own:
        return "none"


print(run(len(sys.argv) * 0), f"{NAME}{WIDTH:g}")
"""
    )
    assert "zlib: 3.50 {{}} {n:>" in text
    assert "unread" not in text  # nothing waits for a missing key
    assert "zlib3.5" in text
    assert ".items()" not in text


PARAMETERS = """
from argparse import ArgumentParser


class Parser(ArgumentParser):
    def error(self, message):
        print("error", message)
        raise SystemExit(0)


def whole(number, factor, *, offset=1):
    return number * factor + offset


def scaled(number, factor=2):
    return number * factor


print(whole(3, factor=2), scaled(4), scaled(4, 5), scaled(**{"number": 6}), (lambda length: length + 1)(2))
"""


def test_parameters_that_no_call_names_have_the_shortest_names():
    text = ast.unparse(positional(ast.parse(PARAMETERS)))
    assert "def whole(number, factor, *, offset=1)" in text, "number is a key of a mapping, too"
    assert "lambda length, /:" in text
    assert "def error(self, message)" in text, "argparse may call it with message=…"
    assert printed(minified(PARAMETERS)) == printed(PARAMETERS)
    short = minified("def scaled(number, factor=2):\n    return number * factor\n\n\nprint(scaled(4), scaled(4, 5))\n")
    assert "number" not in short
    assert "factor" not in short
    assert printed(short) == "8 20\n"
