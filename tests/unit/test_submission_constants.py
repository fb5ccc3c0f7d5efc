"""What is settled when a program is exported: functions of constants, devices, settings, what displays hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from submission_programs import special

from golf.submission.emit import Original
from golf.submission.flatten import place_beside
from golf.submission.on_gpu import without_cpu


def test_functions_of_constants_are_called_beforehand():
    text = special(
        """
from dataclasses import dataclass, replace
from typing import NamedTuple

KNOWN = {"half": 0.5, "whole": 1.0}


@dataclass(frozen=True)
class Group:
    name: str
    rate: float
    roles: tuple = ()


class Visit(NamedTuple):
    block: int
    skip: int | None = None


def groups_of(rates, default):
    found = [Group(name, KNOWN[default] if rate is None else rate, (name,)) for name, rate in rates.items()]
    return [replace(group, roles=(*group.roles, "all")) for group in found]


def visits_of(count):
    return tuple(Visit(n, n - 1 if n else None) for n in range(count))


def main(numbers):
    for group in groups_of({"a": None, "b": -2.0}, "half"):
        print(group.name, group.rate * len(numbers), group.roles)
    for visit in visits_of(2):
        print(visit.block + len(numbers), visit.skip)


main([1, 2])
main([3])
"""
    )
    assert "Group('a', 0.5, roles=('a', 'all'))" in text.replace('"', "'")
    assert "Visit(1, skip=0)" in text
    assert "def groups_of" not in text
    assert "KNOWN" not in text


STAY = {
    "a function that notes its calls": """
seen = []
def note(x):
    seen.append(x)
    return [x]
def main():
    for n in range(2):
        print(note(4), seen)
main()
""",
    "a table that changes": """
table = {"a": 1}
def look(name):
    return [table[name]]
def main():
    print(look("a"))
    table["a"] = 2
    print(look("a"))
main()
""",
    "a list that somebody holds": """
parts = [1, 2]
def both():
    return parts
def main():
    both().append(3)
    print(both(), parts)
main()
""",
    "something from outside": """
import os
def home():
    return os.environ.get("HOME", "")
def main():
    print(home() == os.environ.get("HOME", ""))
main()
""",
    "an error": """
def part(n):
    return [1, 2][n]
def main():
    try:
        print(part(2))
    except IndexError as error:
        print(error)
main()
""",
    "a set, whose order differs": """
def names(text):
    return list({word for word in text.split()})
def main():
    print(sorted(names("a b c")), sorted(names("d e f")))
main()
""",
}


@pytest.mark.parametrize("name", STAY)
def test_what_may_be_something_else_stays(name: str):
    special(STAY[name])


def test_a_list_that_is_made_anew_is_made_anew():
    special(
        """
def fresh(n):
    return [n]


def main():
    for _ in range(2):
        found = fresh(1)
        found.append(2)
        print(found, fresh(1))


main()
"""
    )


def test_a_loop_that_ends_early_or_counts_stays():
    special(
        """
def main(n):
    for _ in range(1):
        if n > 1:
            break
        n = n + 5
    for i in range(1):
        n = n + i
    for j in range(1):
        pass
    return n, i


print(main(1), main(2))
"""
    )


def test_the_type_of_a_device_is_known():
    text = special(
        """
import torch


class Place:
    def __init__(self, name, index):
        self.device = torch.device(name, index)

    def show(self):
        if self.device.type == "cuda":
            print("a GPU")
        print(torch.zeros(1, device=self.device).device.type, torch.device(self.device).type == "cpu")


Place("cpu", 0).show()
"""
    )
    assert "a GPU" not in text


def test_devices_that_may_be_one_or_another_are_asked():
    text = special(
        """
import torch


def show(name):
    device = torch.device(name)
    print(device.type == "cpu", device)


show("cpu")
show("meta")
"""
    )
    assert "device.type" in text


def test_parts_of_displays_are_taken_if_the_others_do_nothing():
    text = special(
        """
def note(x):
    print("noted", x)
    return x


def main(n):
    a = (n, [1])[0]
    b = (n, note(n))[0]
    c = {"a": n, "b": 2}["a"]
    d = {"a": n, **{"a": 3}}["a"]
    for i in range(2):
        n += len([i for i in range(3)])
    return a, b, c, d, [k for k in range(n) if k > 5]


print(main(len("abc")), main(len("")))
"""
    )
    assert "[1]" not in text
    assert "noted" in text


def test_a_variable_of_a_loop_that_is_read_later_stays():
    special(
        """
def main(items):
    for item in items:
        pass
    found = [item for item in [5]]
    return item, found, {len(found): [item for item in [item]]}


print(main([1, 2]), main([3]))
"""
    )


ROUTES = """
# ----- golf.models.attention.causal
def attend(x):
    return "slow" if x.device.type == "cpu" else "fast"


# ----- golf.evaluation.scorer
def score(x):
    return x.device.type == "cpu"


# ----- configuration
def program():
    return Program(accelerator="PLACE")
"""


@pytest.mark.parametrize(("place", "settled"), [("cuda", True), ("cpu", False)])
def test_attention_of_a_program_for_gpus_has_no_route_for_cpus(place: str, settled: bool):
    source = ROUTES.replace("PLACE", place)
    tree = ast.parse(source)
    without_cpu(tree, Original(source, tree))
    text = ast.unparse(tree)
    assert ("'slow' if False" in text) == settled
    assert "return x.device.type == 'cpu'" in text, "scoring may have tensors on the host"


def test_the_place_of_a_tokenizer_is_told_from_its_data(tmp_path: Path):
    folder = tmp_path / "data" / "datasets" / "sp"
    beside = tmp_path / "data" / "tokenizers" / "sp.model"
    for path in (folder / "tokenizer.model", beside, tmp_path / "elsewhere" / "sp.model"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert place_beside(str(folder), str(folder / "tokenizer.model")) == "tokenizer.model"
    assert place_beside(str(folder), str(beside)) == "../../tokenizers/sp.model"
    assert place_beside(str(folder), str(tmp_path / "elsewhere" / "sp.model")) == ""
    assert place_beside(str(folder), "bytes") == ""


def test_settings_of_a_record_are_known_and_compared_as_a_whole():
    text = special(
        """
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Format:
    bits: int
    floor: float = 0.5
    name: str = "plain"

    def scale(self, x):
        return x * self.bits


def settings(fmt):
    held = vars(fmt)
    return {part.name: held[part.name] for part in fields(Format) if held[part.name] != part.default}


def known(formats, meta):
    return [fmt.scale(meta["n"]) for fmt in formats if settings(fmt) == meta["format"]]


def main(n):
    fmt = Format(8, floor=0.25)
    print({"format": settings(fmt), "n": n})
    print(known([fmt], {"format": {"bits": 8, "floor": 0.25}, "n": n}), known([fmt], {"format": {}, "n": n}))
    print({"a": n, "b": n} == {"a": 3, "b": 3}, {"a": n} != {}, "abcdef"[:3] + str(n))


main(len("abc"))
main(len("ab"))
"""
    )
    assert "fields(" not in text
    assert "[:3]" not in text


def test_what_is_in_a_container_that_is_shown_or_compared_stays():
    special(
        """
class Point:
    def __init__(self, x):
        self.x = x

    def __repr__(self):
        return "point"


def main(n):
    inner = {"a": n, "b": [n]}
    outer = {"inner": inner, "n": n}
    other = {"inner": {"a": 3, "b": [3]}, "n": 3}
    text = {"deep": {"deeper": {"n": n}}}
    print(outer)
    print(outer == other, f"{text} and {[{'k': n}]}", str({"s": {"t": n}}), [{"p": Point(n)}])
    return {"r": {"u": n}}


print(main(len("abc")), main(len("ab")))
"""
    )


def test_constants_of_bytes_are_written_where_they_are_read():
    text = special(
        """
import struct
import sys

MAGIC = b"GOLF"
n = len(sys.argv[0]) * 0


def head(coder):
    name = coder.encode()
    return struct.pack(f"<4sB{len(name)}sI", MAGIC, len(name), name, n)


print(head("zlib"), MAGIC == b"GOLF", len(b"a\\0"))
"""
    )
    assert 'struct.pack("<4sB4sI", b"GOLF", 4, b"zlib", n)' in text
    assert "MAGIC" not in text
    assert text.count("True, 2)") == 1


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("MAGIC = b'GOLF' * 9\nprint(MAGIC, MAGIC)", "MAGIC, MAGIC"),
        ("MAGIC = b'golf-golf-golf-golf'\nprint(MAGIC, MAGIC)", "MAGIC, MAGIC"),
        ("MAGIC = b'GOLF'\nprint(n, MAGIC)\nMAGIC += b'2'\nprint(MAGIC, len(MAGIC))", "len(MAGIC)"),
        ("MAGIC = b'GOLF'\nif n == 0:\n    MAGIC = b'FLOG1'\nprint(len(MAGIC))", "len(MAGIC)"),
        ("print('a'.encode(*['utf-8'][n:]))", "encode"),
        ("print('é'.encode('ascii', errors='ignore'))", "encode"),
        ("try:\n    'é'.encode('ascii')\nexcept UnicodeEncodeError:\n    print('no')", "encode"),
        ("try:\n    name = 'a'.encode('none')\nexcept LookupError:\n    print('no')", "encode"),
        ("try:\n    print('a'.startswith())\nexcept TypeError:\n    print('no')", "startswith"),
        ("print('ab'.startswith(*['a', 1][: n + 2]))", "startswith"),
        ("print(str(n).encode())", "encode"),
        ("print([b'ab'[n], b'ab'[0], *b'cd'])", "b'ab'[n]"),
        (
            "class Table:\n    def encode(self):\n        print('coded')\n        return b'a'\n\n\n"
            "Table().encode()\nprint(f'{b\"x\"} {len(Table().encode())}')",
            "coded",
        ),
        ("print(b'1' == '1', b'1' in [b'1'], b'1' in {b'1': n}, b'1' in b'21')", "b'1'"),
    ],
)
def test_other_bytes_stay(source, kept):
    assert kept in special(f"import sys\n\nn = len(sys.argv[0]) * 0\n{source}\n").replace('"', "'")
