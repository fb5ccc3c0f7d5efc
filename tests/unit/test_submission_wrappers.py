"""What holds one thing and is only asked for it is that thing; what somebody looks at stays."""

from __future__ import annotations

import ast

import pytest
from submission_programs import printed, special

from golf.submission.interpret import interpreted
from golf.submission.wrappers import unwrapped

HEAD = """
from __future__ import annotations
import copy, json, sys
from dataclasses import dataclass, field, replace
from typing import NamedTuple
import torch

class Plan(NamedTuple):
    steps: tuple

@dataclass(frozen=True)
class Rate:
    value: float = 0.5

@dataclass
class Run:
    plan: Plan
    name: str

class Stream:
    def __init__(self, items):
        self.items = items

class Holder:
    def __init__(self, held):
        self.held = held

n = len(sys.argv[0]) - len(sys.argv[0]) + 3

"""


def bare(body: str, head: str = HEAD) -> str:
    source = head + body
    tree = ast.parse(source)
    unwrapped(tree, interpreted(tree))
    text = ast.unparse(ast.fix_missing_locations(tree))
    assert printed(text) == printed(source)
    return text[text.index("n = len(sys.argv[0])") :].partition("\n")[2] if head is HEAD else text


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("plan = Plan(n)\nprint(plan.steps)", "plan = n\nprint(plan)"),
        ("plan = Plan(steps=n)\nprint(plan.steps)", "plan = n\nprint(plan)"),
        ("rate = Rate()\nprint(rate.value)", "rate = 0.5\nprint(rate)"),
        ("stream = Stream([n])\nprint(stream.items)", "stream = [n]\nprint(stream)"),
        ("held = Holder((n,))\nprint(held.held[0])", "held = n\nprint(held)"),
        ("plan = Plan((Rate(n),))\nprint(plan.steps[0].value)", "plan = n\nprint(plan)"),
        (
            "run = Run(Plan(n), 'x')\nprint(run.plan.steps, run.name)",
            "run = Run(n, 'x')\nprint(run.plan, run.name)",
        ),
        (
            "def made(x):\n    return Plan(x)\n\ndef use(plan):\n    return plan.steps\nprint(use(made(n)))",
            "def made(x):\n    return x\n\ndef use(plan):\n    return plan\nprint(use(made(n)))",
        ),
        (
            "plans = [Plan(x) for x in range(n)]\nfor plan in reversed(plans):\n    print(plan.steps)",
            "plans = [x for x in range(n)]\nfor plan in reversed(plans):\n    print(plan)",
        ),
        (
            "table = {'a': Plan(n), 'b': Plan(4)}\nprint(table['a'].steps, [p.steps for p in table.values()])",
            "table = {'a': n, 'b': 4}\nprint(table['a'], [p for p in table.values()])",
        ),
        (
            "rows = []\nfor x in range(n):\n    rows.append((x,))\nfor row in rows:\n    print(row[0])",
            "rows = []\nfor x in range(n):\n    rows.append(x)\nfor row in rows:\n    print(row)",
        ),
        (
            "def each():\n    for x in range(n):\n        yield Plan(x)\n\nfor plan in each():\n    print(plan.steps)",
            "def each():\n    for x in range(n):\n        yield x\nfor plan in each():\n    print(plan)",
        ),
    ],
)
def test_what_is_only_asked_for_one_thing_is_that_thing(body, wanted):
    assert bare(body).strip() == wanted


def test_the_type_of_a_field_is_that_of_what_is_in_it():
    source = HEAD.replace("from __future__ import annotations\n", "").replace("steps: tuple", "steps: list[int]")
    text = special(
        source
        + "class Model(torch.nn.Module):\n    def __init__(self, run):\n        self.run = run\n\n"
        + "run = Run(Plan([n]), n)\nfor name in ('name', 'plan'):\n    print(len(str(run.name)), run.plan.steps)\n"
    )
    assert "class Plan" not in text
    assert "plan: list[int]" in text or "class Run" not in text


@pytest.mark.parametrize(
    "body",
    [
        # seen whole
        "plan = Plan(n)\nprint(plan)",
        "plan = Plan(n)\nprint(f'{plan} {plan.steps}')",
        "plan = Plan(n)\nprint('%s' % plan, plan.steps)",
        "plan = Plan(n)\nprint(json.dumps(plan), plan.steps)",
        "plan = Plan(n)\nprint([copy.copy(plan)], plan.steps)",
        "plans = [Plan(n)]\nprint(plans, plans[0].steps)",
        "run = Run(Plan(n), 'x')\nprint(run)",
        "run = Run(Plan(n), 'x')\nprint(run.__repr__())",
        "held = Holder(Plan(n))\nprint(vars(held), held.held.steps)",
        "held = Holder(Plan(n))\nprint(getattr(held, sys.argv[0][:0] + 'held'))",
        # counted, unpacked, gone over
        "plan = Plan(n)\nprint(len(plan))",
        "(x,) = Plan(n)\nprint(x)",
        "plan = Plan((n, 4))\nfor x in plan:\n    print(x)",
        "plan = Plan((n, 4))\nprint(*plan)",
        "plan = Plan((n, 4))\nprint([x for x in plan])",
        "plan = Plan((n, 4))\nprint(plan[0])",
        "for (x,) in [Plan((n, 4))]:\n    print(x)",
        "for i, (x,) in enumerate([Plan((n, 4))]):\n    print(x)",
        "(x,), y = Plan((n, 4)), 5\nprint(x, y)",
        "plan = Plan(n)\nplan += (4,)\nprint('after')",
        # truth, sameness, order
        "plan = Plan(0 * n)\nprint(1 if plan else 2, plan.steps)",
        "plan = Plan(0 * n)\nprint(plan and plan.steps)",
        "plan = Plan(0 * n)\nprint(not plan)",
        "a, b = Rate(n), Rate(float(n))\nprint(a is b, a.value)",
        "a, b = Rate(float('nan')), Rate(n)\nc = [a]\nprint(a in c, b == a)",
        "a = Rate(float('nan'))\nb = [a]\nprint(b == [a], a.value)",
        "a, b = Plan((n, 1)), Plan((n, 2))\nprint(sorted([b, a])[0].steps, max(a, b).steps)",
        "a = Rate(n)\nprint({a: 1}[Rate(n)], a.value)",
        "a = Rate(n)\nseen = set()\nseen.add(a)\nprint(len(seen), a.value)",
        "a = Rate(n)\nprint({a: x for x in range(2)}, a.value)",
        "a, b = Holder(n), Holder(n)\nprint(a == b, a.held)",
        "a = Run(Plan(n), 'x')\nprint(a == Run(Plan(n), 'x'), a.plan.steps)",
        "a = Rate(n)\nprint([Rate(n)].index(a), a.value)",
        # kinds and copies
        "a = Rate(n)\nprint(isinstance(a, Rate), a.value)",
        "a = Rate(n)\nprint(type(a).__name__, a.value)",
        "a = replace(Rate(n), value=4)\nprint(a.value)",
        "a = Plan(n)._replace(steps=4)\nprint(a.steps)",
        "a = Stream(n)\na.items = 4\nprint(a.items)",
        "a = Stream(n)\nb = a\nb.items += 4\nprint(a.items)",
        "a = Stream(n)\na.more = 4\nprint(a.items, a.more)",
        "a = Stream(n)\nsetattr(a, 'items', 4)\nprint(a.items)",
        "a = Stream(n)\ndel a.items\nprint(hasattr(a, 'items'))",
        "a = Rate(n) if n > 2 else None\nprint(a is None or a.value)",
        "def f(a=None):\n    return 0 if a is None else a.value\nprint(f(), f(Rate(n)))",
        "class Fast(Rate):\n    pass\nprint(Fast(n).value, Rate(n).value)",
        "class Slow(Stream):\n    def again(self):\n        return self.items\nprint(Slow(n).again(), Stream(n).items)",
        "def made(kind):\n    return kind(n)\nprint(made(Rate).value)",
        "def made(Rate):\n    return Rate(n)\nprint(made(lambda x: -x), Rate(n).value)",
        "print([Rate(x).value for Rate in [lambda x: Stream(x)] for x in [Stream(n)]] if n < 0 else Rate)",
        "print(Rate.value, Rate(n).value)",
    ],
)
def test_records_that_somebody_looks_at_stay(body):
    before = ast.unparse(ast.parse(body))
    assert bare(body).strip() == before.strip()


@pytest.mark.parametrize(
    "body",
    [
        "x = (n,)\nprint('%s' % x)",
        "print('%s' % (n,))",
        "table = {(n,): 1}\nprint(table[n,])",
        "print(torch.zeros(4)[(n,)].item())",
        "print(torch.zeros((n,)).shape)",
        "print(isinstance(n, (int,)))",
        "kinds = (ValueError,)\ntry:\n    int('x')\nexcept kinds:\n    print('no')",
        "print(n in (n,), 'abc'.startswith(('a',)))",
        "print(len((n,)), sum([n]), tuple([n]))",
        "for x in (n,):\n    print(x)",
        "(x,) = (n,)\nprint(x)",
        "x = (n,)\nprint(*x, (0, *x)[1])",
        "x = [n]\nx.append(4)\nprint(x[0])",
        "x = [n]\ny = x\ny[0] = 4\nprint(x[0])",
        "x = [n]\nx += [4]\nprint(x[0])",
        "x = (n,)\nx += ()\nprint(x[0])",
        "x = (n,)\nprint(x[0], x[-1], x[:1])",
        "x = (n,)\ni = int(n > 9)\nprint(x[i])",
        "x = ([n, 4],)\nprint(x[0], x[False])",
        "def f(*given):\n    return given\nx = (n,)\nprint(f(*x))",
        "def f(x=(n,)):\n    return x\nprint(f())",
        "def f():\n    return (n,)\nprint([*f()])",
        "def f():\n    return (n,) if n else None\nprint(f()[0])",
        "x = [n]\nprint([x] == [[n]], x[0])",
        "x = [n]\ndel x[0]\nprint(x)",
        "x, y = [n], [n]\nprint(x is y, x[0])",
        "x = (0 * n,)\nprint(1 if x else 2, x[0])",
        "x = (0 * n,)\nassert x\nwhile x:\n    print(x[0])\n    break",
        "__all__ = ['n']\n__match_args__ = ('n',)\nprint(sorted(k for k in ['__all__'] if type(__all__) is list))",
        "class E:\n    names = ('n',)\nprint(E.names[0], 'names' in vars(E))",
        "@dataclass\nclass E:\n    names: tuple = ({},)\nprint(E().names[0])",
        "h = Holder((n,))\nprint(vars(h)['held'][0])",
        "h = Holder((n,))\nprint(h.__dict__['held'][0])",
        "print(max([(n,), (4,)])[0], sorted([(n,), (1,)])[0][0])",
        "print(dict([((n,), 1)]))",
        "print([a for a, in [(n,)]])",
        "x = (n,)\ntry:\n    print(x['b'])\nexcept TypeError:\n    print('no')",
        "print(sorted(zip(*[(n,)])))",
        "x = {'a': (n,)}\nprint(json.dumps(x), x['a'][0])",
    ],
)
def test_displays_that_somebody_looks_at_stay(body):
    before = ast.unparse(ast.parse(body))
    assert bare(body).strip() == before.strip()


MODULE = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.held = HELD

    def forward(self, x):
        return x + ASKED


net = Net()
print(len(list(net.parameters())), sorted(net.state_dict()), net(1) is None)
print(net.held.__class__.__name__)
"""


@pytest.mark.parametrize(
    "held",
    ["torch.nn.Parameter(torch.ones(1))", "torch.nn.Linear(1, 1)", "torch.nn.ModuleList([torch.nn.Linear(1, 1)])"],
)
@pytest.mark.parametrize("around", ["({},)", "[{}]", "Box({})", "Box(({},))"])
def test_what_a_torch_module_would_register_stays_wrapped(held, around):
    box = "class Box:\n    def __init__(self, x):\n        self.x = x\n\n\n"
    asked = {"({},)": "[0]", "[{}]": "[0]", "Box({})": ".x", "Box(({},))": ".x[0]"}[around]
    use = f"(0 if self.held{asked} is not None else 1)"
    source = box + MODULE.replace("HELD", around.format(held)).replace("ASKED", use)
    source = source.replace("print(net.held.__class__.__name__)\n", "")
    text = bare(source, "")
    assert "Box(" in text or "(torch.nn" in text.replace("Parameter(torch", "") or "[torch.nn" in text


def test_what_a_foreign_base_looks_at_stays():
    source = """
import torch


class Norm(torch.nn.LayerNorm):
    def __init__(self):
        super().__init__(2)
        self.normalized_shape = (2,)

    def size(self):
        return self.normalized_shape[0]


norm = Norm()
print(norm.size(), norm(torch.ones(1, 2)).sum().item())
"""
    assert "(2,)" in bare(source, "")


def test_a_class_that_only_types_name_may_go():
    source = "n = 3\n\n\nclass Link:\n    def __init__(self, x):\n        self.x = x\n\n\n"
    source += "def f(a: Link) -> Link:\n    b: Link = a\n    return b\n\n\nc: Link = Link(n)\nprint(f(c).x)\n"
    special(source)


def test_types_that_name_each_other_end():
    source = """
from __future__ import annotations
from typing import NamedTuple


class A(NamedTuple):
    b: B | None


class B(NamedTuple):
    a: A | None


class C(NamedTuple):
    c: C | None


print(A(B(A(None))).b.a.b, C(None).c)
print(A(None).b)
"""
    special(source)
    bare(source, "")
