"""Programs that the specialiser must not change: whatever it leaves out, they print the same."""

from __future__ import annotations

import pytest
from submission_programs import special


@pytest.mark.parametrize(
    ("name", "source"),
    {
        "functions without an object, called for what they do": """
class Say:
    @staticmethod
    def once(x):
        for y in (x,):
            print(y)

    @classmethod
    def twice(cls, x):
        for y in (x, x):
            print(y)

    @staticmethod
    def never(x):
        pass


def with_either(f):
    f(3)


for x in (1, 2):
    Say.once(x)
    Say.twice(x)
    Say.never(x)
with_either(lambda x: print(x))
with_either(Say.never)
""",
        "what is set on somebody else's module": """
import textwrap as wrapping
import textwrap

kept = textwrap.dedent
wrapping.dedent = str.upper
print(textwrap.dedent("a"))
wrapping.dedent = kept
""",
        "an item that is set, and a variable with it": """
import sys

table = {}
again = table
one, table["b"] = 1, 2
print(list(again.items()))
""",
        "a default that does something": """
def noted(x):
    print("noted", x)
    return x


def shift(a=noted(3), *, b=noted(4)):
    print(a, b)


for n in (1, 2, 3):
    shift(n, b=n)
""",
        "an attribute assigned later": """
class Switch:
    def __init__(self):
        self.on = False

    def flip(self):
        self.on = not self.on


switch = Switch()
for _ in range(3):
    switch.flip()
    if switch.on:
        print("on")
    else:
        print("off")
""",
        "an attribute set from outside": """
class Box:
    def __init__(self):
        self.op = None

    def run(self):
        return self.op(2) if self.op is not None else 0


boxes = [Box(), Box()]
boxes[0].op = lambda x: x + 1
print([box.run() for box in boxes])
""",
        "setattr": """
class Box:
    op = None


box = Box()
setattr(box, "op", 5)
if box.op is None:
    print("none")
else:
    print(box.op)
""",
        "a subclass with another class attribute": """
class Base:
    sharded = False

    def say(self):
        return "sharded" if self.sharded else "whole"


class Sharded(Base):
    sharded = True


print([rule.say() for rule in (Base(), Sharded())])
""",
        "a property that overrides": """
class Base:
    @property
    def size(self):
        return 1


class Big(Base):
    @property
    def size(self):
        return 2


for thing in (Base(), Big()):
    print("small" if thing.size == 1 else "big")
""",
        "two instances with different values": """
class Layer:
    def __init__(self, zero=False):
        self.zero = zero


print(["zero" if layer.zero else "random" for layer in (Layer(), Layer(zero=True), Layer(False))])
""",
        "a mutable default": """
def collect(x, found=[]):
    found.append(x)
    return len(found)


print(collect(1), collect(2), collect(3))
""",
        "names that are shadowed": """
mode = None


def run(mode):
    return [mode for mode in (mode, 2)], mode


def other():
    mode = 3
    return mode


print(run(1), other(), mode)
""",
        "a closure over a variable that changes": """
def counter():
    count = 0

    def add():
        nonlocal count
        count += 1
        return count

    return add


add = counter()
print(add(), add())
""",
        "a walrus": """
def first(values):
    if (found := next(iter(values), None)) is None:
        return "nothing"
    return found


print(first([]), first([4]), [y := 1, y + 1], y)
""",
        "a comprehension's own scope": """
flag = None
print([flag for flag in (1, 2) if flag is not None], flag)
""",
        "a variable that is reassigned after its test": """
def run(x):
    if x is None:
        x = 3
    return x if x is not None else 0


print(run(None), run(1))
""",
        "an attribute that only grows": """
class Counter:
    def __init__(self):
        self.seen, self.never = 0, 0

    def count(self):
        self.seen += 1
        self.never += 1
        return self.seen


counter = Counter()
print(counter.count(), counter.count())
""",
        "a function that is handed on but never called": """
def never(x):
    return x


class Holder:
    def __init__(self, call=never):
        self.call = call

    def idle(self):
        return 0


holder = Holder()
print(len([holder.call, holder.idle, never]))
""",
        "dispatch by getattr": """
class Tool:
    def cut(self):
        return "cut"

    def glue(self):
        return "glue"


for name in ("cut", "glue"):
    print(getattr(Tool(), name)())
names = "".join(["c", "u", "t"])
print(getattr(Tool(), names)(), hasattr(Tool(), "saw"))
""",
        "class members that are found by vars and __dict__": """
class Plain:
    cut = True


class Whole(Plain):
    def __init__(self):
        self.size, self.name = 2, "whole"


def able(part):
    return "cut" in vars(type(part))


print([able(part) for part in (Plain(), Whole())], sorted(Whole().__dict__), "cut" not in Plain.__dict__)
for name in ("cut", "size"):
    print(name in vars(Plain), name in vars(Whole()))
""",
        "callbacks and hooks": """
class Late:
    def __init__(self):
        self.seen = None

    def listen(self, value):
        self.seen = value

    def told(self):
        return "nothing" if self.seen is None else self.seen


late = Late()
list(map(late.listen, [1, 2]))
print(late.told(), sorted([3, 1], key=lambda x: -x))
""",
        "records that are read as a whole": """
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Format:
    bits: int
    step: int = 1
    name: str = "plain"


class Visit(NamedTuple):
    block: int
    push: bool = False


print(asdict(replace(Format(6), step=2)))
block, push = Visit(3)
print(block, push, Visit(1, True)[1:])
""",
        "an exception that is caught": """
def risky(x):
    if x > 1:
        raise ValueError("too large")
    return x


for value in (1, 2):
    try:
        print(risky(value))
    except ValueError as error:
        print(error)
""",
        "loops that end early": """
def find(values, wanted=None):
    for value in values:
        if wanted is not None and value == wanted:
            break
        if value > 2:
            return value
    else:
        return "end"
    return "found"


print(find([1, 5]), find([1]), find([1, 2], 2))
""",
        "generators and a dictionary of functions": """
def double(x):
    return 2 * x


def half(x):
    return x / 2


def pairs(n):
    for i in range(n):
        yield i, i * i


TABLE = {"double": double, "half": half}
print([TABLE[name](value) for name in sorted(TABLE) for _, value in pairs(3)])
""",
        "generators that hand on others, and enumeration from one": """
def dealt(pieces, rank):
    yield from list(enumerate(pieces))[rank::2]


def ends(pieces):
    found, total = [], 0
    for end, piece in enumerate(pieces, 1):
        total += piece
        if total > 2:
            found.append(end)
    return found


seen = []
for number, piece in dealt([3, 4, 5], 0):
    seen.append(number * piece)
print(seen, ends([1, 2, 3]))
""",
        "numbers that are equal but not the same": """
class Value:
    def __init__(self, x):
        self.x = x


for value in (Value(1), Value(True), Value(1.0)):
    print(value.x, isinstance(value.x, bool))
""",
        "keywords from a dictionary": """
def make(a=1, b=2, c=None):
    return (a, b) if c is None else c


settings = {"a": 5}
print(make(**settings), make(b=3, **settings), make(**{**settings, "c": 4}))
""",
    }.items(),
    ids=lambda value: value if "\n" not in value else "",
)
def test_the_program_stays_the_same(name, source):
    special(source)


def test_a_parameter_that_is_only_added_to_stays_apart_from_the_callers_variable():
    special(
        """
import sys


def count(start, sizes):
    for size in sizes:
        start += size


def read(blob, sizes, start):
    count(start, sizes)
    found = []
    for size in sizes:
        found.append(blob[start : start + size])
        start += size
    return found


def outer(blob, sizes):
    first, begin = len(sys.argv), len(sys.argv) + 3
    print(first)
    return read(blob, sizes, begin)


print(outer(list(range(len(sys.path) + 9)), [len(sys.argv), 2]))
"""
    )


def test_a_value_that_a_handler_may_see_is_not_replaced():
    special(
        """
import sys


def divided(x):
    y = 7
    try:
        y = x
        y = y // x
    except ZeroDivisionError:
        pass
    return y


print(divided(len(sys.argv) - len(sys.argv)), divided(len(sys.argv)))
"""
    )
