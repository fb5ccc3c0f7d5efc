"""Defaults that every call gives a value for go; those that somebody takes or looks at stay."""

from __future__ import annotations

import pytest
from submission_programs import special

HEAD = """
import dataclasses
import inspect
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch

n = len(sys.argv[0]) * 0


def shown(a, b=1, *, c=2):
    print("shown")
    for x in (a, b, c):
        print(x)


class Clock:
    def __init__(self, first=0, second=1):
        self.first, self.second = first, second

    def later(self, by=1):
        print("later")
        return self.first + self.second + by


@dataclass
class Span:
    begin: int = 0
    end: int = 1


def use(span):
    print("used")
    return [span.begin + n, span.end + n]


"""


def shortened(body: str) -> str:
    return special(HEAD + body)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("for n in (1, 2, 3):\n    shown(n, n, c=n)\n    shown(n, b=n + 1, c=5)", "def shown(a, b, *, c):"),
        ("for n in (1, 2, 3):\n    shown(n, n, c=n)\n    shown(n, b=n)", "def shown(a, b, *, c=2):"),
        ("for n in (1, 2, 3):\n    shown(n, c=n)\n    shown(n, n, c=n + 1)", "def shown(a, b=1, *, c):"),
        (
            "for n in (1, 2, 3):\n    a, b = Clock(n, n), Clock(n, second=n)\n    print(a.later(n), b.later(by=n + 1))",
            "def later(self, by):",
        ),
        ("for n in (1, 2, 3):\n    print(use(Span(n, n)), use(Span(end=n, begin=0)))", "begin: int\n"),
        ("for n in (1, 2, 3):\n    print(use(Span(n)), use(Span(n, 1)), use(Span(n, n)))", "begin: int\n"),
    ],
)
def test_what_every_call_gives_has_no_default(body, wanted):
    assert wanted in shortened(body).replace("\t", "    ")


def test_only_what_follows_what_must_be_given_can_have_no_default():
    text = shortened(
        "for n in (1, 2, 3):\n    a, b, c = Clock(second=n), Clock(n, n), Clock(n, n + 1)\n"
        "    print(a.later(n), b.later(n + 1), c.first)\n    print(use(Span(end=n)), use(Span(n, n)))"
    )
    assert "first=0, second=1" in text
    assert "begin: int = 0" in text


@pytest.mark.parametrize(
    "body",
    [
        "for n in (1, 2, 3):\n    shown(*[n, n], c=n)\n    shown(n, n, c=n)",
        "for n in (1, 2, 3):\n    shown(n, **{'bc'[0]: n, 'c': n})\n    shown(n)",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\nprint(inspect.signature(shown))",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\nprint(shown.__defaults__, shown.__kwdefaults__)",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\n    partial(shown, n)()",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\nlist(map(shown, [1, 2]))",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\nfor f in (shown, print):\n    f(n)",
        "for n in (1, 2, 3):\n    shown(n, n, c=n)\n\n\ndef again(f):\n    f(n)\n\n\nagain(shown)\nagain(lambda x: x)",
        "class Late(Clock):\n    pass\n\n\nfor n in (1, 2, 3):\n    print(Clock(n, n).later(n), Late(n).later(by=n))",
        "class Late(Clock):\n    def __init__(self):\n        super().__init__()\n\n\n"
        "for n in (1, 2, 3):\n    print(Clock(n, n).later(n), Late().later())",
        "for n in (1, 2, 3):\n    print(use(Span(n, n)), use(Span(*[n])))",
        "for n in (1, 2, 3):\n    print(use(Span(n, n)), Span.begin)",
        "for n in (1, 2, 3):\n    print(use(Span(n, n)), [f.default for f in dataclasses.fields(Span)])",
        "for n in (1, 2, 3):\n    s = Span(n, n)\n    del s.begin\n    print(use(s))",
        "@dataclass\nclass Long(Span):\n    more: int = 3\n\n\nprint(use(Span(n, n)), use(Long(n)), Long().more)",
        "made = [Span, Clock]\nfor n in (1, 2, 3):\n    print(use(Span(n, n)), [kind() is None for kind in made])",
        "for n in (1, 2, 3):\n    print(use(Span(n, n)), use(dataclasses.replace(Span(n, 3), end=n)))",
        "@dataclass\nclass Bag:\n    items: list = field(default_factory=list)\n\n\n"
        "for n in (1, 2, 3):\n    print(Bag([n]).items, Bag([n, n]).items)",
        "def noted(x):\n    print('noted', x)\n    return x\n\n\n"
        "def shift(a=noted(3)):\n    print('a')\n    print(a)\n\n\n"
        "for n in (1, 2, 3):\n    shift(n)\n    shift(a=n + 1)",
    ],
)
def test_what_somebody_leaves_out_or_looks_at_keeps_its_default(body):
    shortened(body)


def test_what_torch_calls_keeps_its_defaults():
    text = shortened(
        """
class Twice(torch.nn.Module):
    def forward(self, x, times=2):
        print("forward")
        return x * times


net = Twice()
for n in (1, 2, 3):
    print(net(torch.ones(1), n).item(), net(torch.ones(1), times=n).item())
print(torch.nn.Sequential(net)(torch.ones(1)).item())
"""
    )
    assert "times=2" in text
