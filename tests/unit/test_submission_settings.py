"""The fields of a program's one settings object become names of the module; other objects keep theirs."""

from __future__ import annotations

import pytest
from submission_programs import special

PROGRAM = """
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    words: list[str]
    limits: dict[str, int]
    unused: int = 3


def shown(program, word):
    return word, program.limits.get(word), len(program.limits)


def main(program):
    for word in program.words:
        print(shown(program, word), LIMITS)
    program.words.append("c")
    print(program.words)


LIMITS = sys.byteorder


def program():
    "The settings."
    return Program(words=["a", str(sys.maxsize)], limits={"a": len(sys.argv)})


if sys.argv:
    print(main(program()))
"""


def test_fields_of_the_one_program_are_names_of_the_module():
    text = special(PROGRAM)
    assert "class Program" not in text
    assert "def program" not in text
    assert 'WORDS = ["a", str(sys.maxsize)]' in text
    assert "LIMITS_ = {" in text, "the name LIMITS is taken"
    assert "for word in WORDS" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def program", "other = Program(words=[], limits={})\nprint(other.words)\n\n\ndef program"),  # two objects
        ("main(program())", "main(program()), program().words"),  # made twice
        ("@dataclass(frozen=True)", "@dataclass"),  # it could change
        ("    print(program.words)\n", "    print(program)\n"),  # shown as a whole
        (
            "    return Program(words=[",
            "    first = str(sys.maxsize)\n    return Program(words=[first, first, ",
        ),  # not of one expression
        ("Program(words=", "Program(**{'words': ['b']}, limits={'b': sys.maxsize}) if sys.argv else Program(words="),
    ],
)
def test_other_programs_keep_their_object(old: str, new: str):
    text = special(PROGRAM.replace(old, new, 1))
    assert "Program(" in text
    assert "def program" in text
