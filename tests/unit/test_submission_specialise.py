"""The specialiser on small programs: what it leaves out, what it must not, and that the rest says the same."""

from __future__ import annotations

from submission_programs import special


def test_attributes_that_are_none_are_folded():
    text = special(
        """
class Net:
    def __init__(self, width, bigram=None, smear=None):
        self.width, self.bigram, self.smear = width, bigram, smear

    def embed(self, x):
        if self.bigram is not None:
            x = x + self.bigram(x)
        return x * self.width if self.smear is None else self.smear(x)

    def unused(self):
        return 1


print(Net(3, bigram=None).embed(int(input_of("2"))) if False else Net(width=3).embed(len("ab")))
"""
    )
    for gone in ("bigram", "smear", "unused", "input_of"):
        assert gone not in text


def test_parameters_go_with_their_arguments_at_every_call():
    text = special(
        """
def scale(x, factor, mode="plain", *, debug=False):
    if debug:
        print("debug")
    if mode == "square":
        return x * x
    return x * factor


import sys
print(scale(len(sys.argv), 2, "plain"), scale(len(sys.path), 3, debug=False))
"""
    )
    assert "def scale(x, factor):" in text
    assert "debug" not in text
    assert "mode" not in text


def test_partials_lose_arguments_too():
    text = special(
        """
from functools import partial


class Part:
    def __init__(self, width, gate=None):
        self.width = width
        if gate is not None:
            print(gate)


def build(factory):
    return factory(width=len(str(id(factory))) * 0 + 4)


print(build(partial(Part, gate=None)).width)
"""
    )
    assert "gate" not in text


def test_torch_modules_keep_what_they_register_and_their_hooks():
    text = special(
        """
import torch
from torch import nn


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(2, 2)
        self.note = "never read"
        self.register_buffer("table", torch.ones(2))

    def forward(self, x, context=None):
        return x / 2 * self.table

    def train(self, mode=True):
        return super().train(mode)


net = Half()
seen = []
net.register_forward_hook(lambda module, arguments, output: seen.append(len(arguments)))
net.eval()
print(net(torch.ones(2), None), sorted(net.state_dict()), seen)
"""
    )
    assert "self.idle = nn.Linear(2, 2)" in text
    assert "def train" in text
    assert "never read" not in text


CHECKED = '''
class UserError(Exception):
    pass


def size(x):
    """How large."""
    if x < 0:
        raise UserError(f"{x} is negative")
    try:
        return len(str(x))
    except OSError as error:
        raise UserError("cannot") from error


import sys
print(size(len(sys.argv)))
'''


def test_checks_go_only_where_they_may():
    assert "UserError" not in special(CHECKED, keep_checks=())
    assert "is negative" in special(CHECKED, keep_checks=("size",))
    assert "is negative" in special(CHECKED)


def test_functions_called_once_are_written_where_they_are_called():
    text = special(
        """
import sys


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def apply(self, x):
        y = x * self.factor
        return y + 1

    @property
    def doubled(self):
        return 2 * self.factor


def first(x):
    if x > 3:
        return "many"
    return "few"


def run(y):
    scale = Scale(len(sys.argv) * 0 + 3)
    z = scale.apply(y)
    return z + scale.doubled, first(z), y


print(run(len("ab")))
"""
    )
    for gone in ("def apply", "def first", "doubled"):
        assert gone not in text


def test_the_order_of_effects_stays():
    text = special(
        """
seen = []


def note(x):
    seen.append(x)
    return x


def late(x, y):
    found = y - x
    seen.append("late")
    return found


def either(x, flag):
    return note(x) if flag else note(-x)


def run(n):
    y = 5
    total = note(1) + late(note(2), y=note(3))
    found = [note(4), late(7, n), either(note(6), n > 3)]
    for y in range(2):
        total += late(y, n)
    return total, found, y


print(run(4), run(2), seen)
"""
    )
    assert "def note" in text


def test_closures_and_shadowed_names_are_not_moved_wrongly():
    special(
        """
scale = 10


def adder(step):
    def add(x):
        return x + step * scale
    return add


def times(x):
    return x * scale


def run(values):
    scale = 2
    made = []
    for value in values:
        made.append(adder(value))
    return [f(1) for f in made], times(3), scale, [times(scale) for scale in values]


print(run([1, 2, 3]))
"""
    )
