"""Parts and objects of an exported program: called by their names, and gone where nobody asks for them."""

from __future__ import annotations

import pytest
from submission_programs import special


def test_parts_that_are_handed_down_are_called_by_name():
    text = special(
        """
from functools import partial


class Wide:
    def width(self):
        return 3


class Layer:
    def __init__(self, size):
        self.size, self.first = size, not size


class Net:
    def __init__(self, layer, shape):
        self.layers = [layer(n * shape.width()) for n in range(3)]


def build(make):
    return make()


net = build(partial(Net, layer=partial(Layer), shape=Wide()))
print([(layer.size, layer.first) for layer in net.layers])
"""
    )
    assert "Layer(n * 3)" in text
    assert "partial" not in text


def test_a_name_that_means_something_else_is_not_written():
    text = special(
        """
class Layer:
    def __init__(self, size):
        self.size = size


class Net:
    def __init__(self, make, sizes):
        for Layer in sizes:
            self.layer = make(Layer)


print(Net(Layer, [len("ab"), len("abc")]).layer.size)
"""
    )
    assert "make(Layer)" in text


def test_objects_that_are_told_apart_or_hold_something_stay():
    text = special(
        """
class Marker:
    pass


class Counter:
    def more(self):
        self.count = getattr(self, "count", 0) + 1
        return self.count


class Pair:
    def __init__(self, first, second, counter):
        self.first, self.second, self.counter = first, second, counter

    def same(self):
        return self.first is self.second


class Key:
    pass


def counted(keys):
    table = {keys[0]: 1}
    return keys[1] in table, keys[0] in table, keys[0] == keys[1], [Key()].count(keys[0])


print(counted([Key(), Key()]))
marker = Marker()
print(Pair(marker, marker, Counter()).same(), Pair(Marker(), marker, Counter()).same())
held = Pair(marker, marker, Counter())
print(held.counter.more(), held.counter.more())
"""
    )
    assert "self.first is self.second" in text
    assert "self.counter" in text


def test_partials_whose_insides_are_read_stay():
    text = special(
        """
from functools import partial


def add(a, b):
    return a + b


def show(made):
    print(made.func.__name__, made.keywords, made(1, 2))


show(partial(add))
"""
    )
    assert "partial(add)" in text


def test_what_never_holds_anything_goes():
    text = special(
        """
class A:
    pass


class B:
    pass


class Plan:
    def __init__(self, parts=(), extra=()):
        self.parts, self.extra = list(parts), extra

    def all(self, more):
        kept = [part for part in self.extra if part]
        for part in self.extra:
            print("never", part)
        for _ in range(1):
            more = more + 1
        return [*kept, *self.extra, more], more in self.extra, isinstance(more, A | int)


print(Plan(extra=[]).all(len("ab")), Plan(extra=[]).all(len("a")))
"""
    )
    assert "extra" not in text
    assert "range(1)" not in text
    assert "class A" not in text


def test_what_is_filled_later_stays():
    special(
        """
class Plan:
    def __init__(self):
        self.parts = []

    def add(self, part):
        self.parts.append(part)

    def show(self):
        for part in self.parts:
            print(part)
        return [*self.parts], 3 in self.parts


plan = Plan()
print(plan.show())
plan.add(3)
print(plan.show())
"""
    )


def test_an_optimizer_is_stepped_by_the_program_alone():
    text = special(
        """
import torch


class Rule(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__([{"params": params, "lr": 0.5}], defaults={})

    def step(self, closure=None):
        loss = None
        if closure is not None:
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.data -= group["lr"] * p.grad
        return loss

    def state_dict(self):
        return {}


def main():
    weight = torch.nn.Parameter(torch.ones(2))
    rule = Rule([weight])
    for _ in range(2):
        weight.sum().backward()
        rule.step()
    print(weight.tolist())


main()
"""
    )
    assert "closure" not in text
    assert "state_dict" not in text


PICKLED = """
IMPORT


class Held:
    def __init__(self, n):
        self.n, self.open = n, [n]

    def __getstate__(self):
        return {**self.__dict__, "open": None}

    def total(self):
        return self.n + len(self.open)


held = Held(3)
print(held.total(), USE)
"""


def test_how_objects_are_pickled_matters_only_where_something_pickles():
    plain = special(PICKLED.replace("IMPORT", "").replace("USE", "4"))
    assert "__getstate__" not in plain
    text = special(PICKLED.replace("IMPORT", "import copy").replace("USE", "copy.copy(held).open"))
    assert "__getstate__" in text


CLOCK = """
import math
import sys
import textwrap
import time


class Clock:
    def __init__(self, start, read=math.floor):
        self.start, self.read = start, read

    def since(self, x):
        return self.read(x) - self.start


n = len(sys.argv[0]) * 0
for x in (1.5, 2.5):
    clock = Clock(n)
    print(clock.since(x), clock.read(x))
"""


def test_a_function_of_a_module_that_nothing_else_is_given_for_is_called_by_its_name():
    text = special(CLOCK.replace(", clock.read(x)", ""))
    assert "math.floor(x) - self.start" in text
    assert "read" not in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clock = Clock(n)", "clock = Clock(n, round)"),
        ("clock = Clock(n)", "clock = Clock(n, *[round][n:])"),
        ("clock = Clock(n)", "clock = Clock(n)\n    clock.read = math.ceil"),
        ("n = len", "math.floor = round\nn = len"),
        ("    clock = Clock(n)", "    clock = Clock(n)\n    math.floor = math.ceil"),
        ("n = len", "setattr(math, 'floor', round)  # math.floor =\nn = len"),
        ("def since(self, x)", "def since(self, x, math=None)"),
        ("return self.read(x)", "import cmath as math\n        return self.read(x)"),
        ("n = len", "class Late(Clock):\n    read = round\n\n\nprint(Late(3).since(1.5))\nn = len"),
        ("print(clock.since", "del clock.read\n    clock.read = abs\n    print(clock.since"),
        ("print(clock.since", "print(vars(clock)['read'](3), clock.since"),
        ("print(clock.since", "print(callable(getattr(clock, 'read' + ''[n:])), clock.since"),
    ],
)
def test_other_functions_are_called_as_they_were(old, new):
    assert old in CLOCK
    source = CLOCK.replace(old, new)
    special(f"import math as sums\n\nkept = sums.floor\n{source}\nsums.floor = kept\n" if ".floor =" in new else source)


def test_a_function_that_a_class_holds_is_a_method():
    text = special(
        """
import textwrap


class Note:
    cut = textwrap.dedent

    def __str__(self):
        return "    note"

    def splitlines(self):
        return []


def shown(x, cut=textwrap.dedent):
    for line in (x, x):
        print(cut(line))


for x in ("  a", "  b"):
    shown(x)
try:
    print(Note().cut())
except TypeError:
    print("no text")
"""
    )
    assert "Note().cut()" in text
