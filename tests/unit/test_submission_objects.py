"""Programs whose objects change later, or are used by somebody else."""

from __future__ import annotations

import pytest
from submission_programs import special

PROGRAMS = {
    "what a class has until its instance gets its own": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

class A:
    flag = False
    def enable(self):
        self.flag = True
    def use(self):
        return "on" if self.flag else "off"
a = A()
if no:
    a.enable()
print(a.use())
""",
    "an attribute that is there in some cases": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

class A:
    def enable(self):
        self.flag = True
    def use(self):
        return "on" if hasattr(self, "flag") else "off"
    def got(self):
        return getattr(self, "flag", "none")
a = A()
if no:
    a.enable()
print(a.use(), a.got())
""",
    "objects in Python's own containers": """
from collections import deque, defaultdict, OrderedDict
import queue
class A:
    def go(self):
        return "went"
q = deque()
q.append(A())
print(q.popleft().go())
class B:
    def go(self):
        return "went b"
d = defaultdict(list)
d["x"].append(B())
print(d["x"][0].go())
class C:
    def go(self):
        return "went c"
o = OrderedDict()
o["k"] = C()
for v in o.values():
    print(v.go())
class D:
    def go(self):
        return "went d"
z = queue.Queue()
z.put(D())
z.put(D())
z.get()
print(z.get().go())
""",
    "an attribute of somebody else's object": """
import argparse
class Op:
    def go(self):
        return "went"
n = argparse.Namespace()
n.op = Op()
print(n.op.go())
""",
    "an object that looks like a file": """
import contextlib
class W:
    def write(self, t):
        if t.strip():
            import sys
            sys.__stdout__.write("")
            out.append(t.strip())
    def flush(self):
        pass
out = []
with contextlib.redirect_stdout(W()):
    print("hello")
print(out)
""",
    "a property with a setter": """
class T:
    def __init__(self):
        self._x = 0
    @property
    def x(self):
        self._x += 1
        return self._x
    @x.setter
    def x(self, v):
        self._x = v * 10
t = T()
t.x
t.x = 5
print(t.x)
""",
    "names of attributes put together": """
class A:
    def __init__(self):
        self.x_one = 1
        self.x_two = 2
    def do_one(self):
        return "one"
    def do_two(self):
        return "two"
a = A()
for n in ("one", "two"):
    print(getattr(a, "x_" + n), getattr(a, f"do_{n}")())
for n in ["p", "q"]:
    setattr(a, "y_" + n, n)
print(a.y_p, hasattr(a, "y_q"))
if hasattr(a, "y_z"):
    print("z")
""",
    "writing to __dict__": """
class A:
    def __init__(self):
        self.v = 1
a = A()
a.__dict__["v"] = 2
print("one" if a.v == 1 else "other")
vars(a)["v"] = 3
print("one" if a.v == 1 else "other")
a.__dict__.update(v=4)
print(a.v)
b = A()
b.__dict__.update(a.__dict__)
print(b.v)
""",
    "objects compared with each other": """
class A:
    def __init__(self, k):
        self.k = k
    def __eq__(self, o):
        return self.k == o.k
    def __hash__(self):
        return hash(self.k)
print(A(1) == A(1), A(1) in [A(1)], {A(1): 2}[A(1)], len({A(1), A(1)}))
""",
    "an argument that changes before it is used": """
class T:
    def __init__(self):
        self.v = 1
    def inc(self):
        self.v = self.v + 1
def keep(t, v):
    t.inc()
    print(v, t.v)
def main():
    t = T()
    keep(t, t.v)
    x = 1
    def bump():
        nonlocal x
        x += 1
    def late(a):
        bump()
        return a, x
    print(late(x))
main()
def glob(a):
    poke()
    return a
val = [0]
def poke():
    val[0] += 1
def main2():
    print(glob(val[0]), glob(len(val)), val)
main2()
num = 1
def poke2():
    global num
    num = 7
def glob2(a):
    poke2()
    return a
def main3():
    print(glob2(num), num)
main3()
""",
    "what is returned to somebody unknown": """
import json, pickle, copy, io
class E(json.JSONEncoder):
    def default(self, o):
        return o.as_json()
class X:
    def __init__(self, v):
        self.v = v
        self.hidden = v * 2
    def as_json(self):
        return {"v": self.v}
    def __getstate__(self):
        return {"v": self.v}
    def __setstate__(self, s):
        self.v = s["v"]
        self.hidden = -1
print(json.dumps([X(1)], cls=E))
print(json.dumps({"k": X(2)}, default=lambda o: o.as_json()))
y = copy.deepcopy(X(3))
print(y.v, y.hidden)
z = copy.copy([X(4)])[0]
print(z.v)
""",
    "methods that are decorated": """
from functools import lru_cache, cached_property, cache
class A:
    def __init__(self):
        self.n = 0
    @cached_property
    def big(self):
        self.n += 1
        return self.n * 10
a = A()
print(a.big, a.big, a.n, bool(a.big), "zero" if not a.big else "nz")
@cache
def sq(x):
    print("computing")
    return x * x
print(sq(2), sq(2))
@lru_cache(maxsize=None)
def cu(x, y=1):
    return x ** 3 + y
print(cu(2), cu(2, y=4))
""",
    "threads": """
import threading
class W(threading.Thread):
    def __init__(self, n):
        super().__init__()
        self.n = n
        self.out = None
    def run(self):
        self.out = self.helper(self.n)
    def helper(self, n):
        return n + 1
w = W(1)
w.start()
w.join()
print(w.out)
res = []
def job(k, extra=0):
    res.append(k + extra)
t = threading.Thread(target=job, args=(4,), kwargs={"extra": 2})
t.start()
t.join()
print(res)
lock = threading.Lock()
with lock:
    print("locked")
import atexit, signal
old = signal.signal(signal.SIGTERM, lambda *a: None)
print(old is not None)
""",
    "an attribute read before a method changes it": """
class Counter:
    def __init__(self):
        self.value = 1

    def add(self):
        self.value = self.value + 1
        return self.value


def both(counter, value):
    return (counter.add(), value)


def main():
    counter = Counter()
    print(both(counter, counter.value), both(counter, counter.value + 1))


main()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_stays_the_same(name):
    special(PROGRAMS[name])


def test_a_method_hides_what_getattr_would_fall_back_to():
    text = special(
        """
import sys
from collections import OrderedDict


class Net(OrderedDict):
    def names(self):
        return [name for name in sys.path]


class Own:
    pass


def chosen(net):
    return getattr(net, "names", list)() if hasattr(net, "names") else sys.argv


print(len(chosen(Net())))
print(len(getattr(Own(), "names", list)()))
"""
    )
    assert "hasattr" not in text
    assert text.count("getattr") <= 1  # the second falls back
    assert ".argv" not in text


def test_a_deleted_method_is_not_relied_on():
    text = special(
        """
class Net:
    def names(self):
        return [1, 2]


net = Net()
del Net.names
print(hasattr(net, "names"), len(getattr(net, "names", list)()))
"""
    )
    assert 'getattr(net, "names", list)' in text.replace("'", '"')


def test_a_value_that_is_replaced_at_once_is_written_where_it_is_read():
    text = special(
        """
import sys


def doubled(x, keep):
    y = x
    y = y * y
    z = x
    keep.append(z)
    z = z + 1
    return y + z


print(doubled(len(sys.argv), []), doubled(len(sys.path) - len(sys.path), [2]))
"""
    )
    assert "y = x\n" not in text
    assert "y = x * x" in text or "return x * x" in text


ASKED = """
import os
import sys
from collections import deque


class Tool:
    def __init__(self):
        self.size, self.float32 = 4, 5

    def step_a(self):
        return self.size


nothing = sys.argv[0][:0]
held = deque()
held.append(Tool())
tool = held.popleft()
"""


def test_what_is_asked_of_a_module_by_any_name_is_not_of_the_program():
    text = special(ASKED + "print(tool.step_a(), getattr(os, nothing + 'sep'), 'float32')\n")
    assert "self.float32" not in text
    assert "self.size" not in text
    assert "getattr(os, nothing" in text


@pytest.mark.parametrize(
    "use",
    [
        "getattr(tool, 'step_' + 'ab'[len(nothing)])()",
        "getattr(tool, nothing + 'float32')",
        "getattr(Tool(), 'float' + '3245'[len(nothing):2])",
        "getattr(Tool, 'step_' + 'ab'[len(nothing)])(tool)",
        "[getattr(x, nothing + 'size', None) for x in (sys, tool)]",
        "hasattr(tool, 'st' + nothing + 'ep_a') and hasattr(tool, nothing + 'size')",
    ],
)
def test_what_is_asked_of_objects_by_any_name_stays(use):
    special(ASKED + f"print({use})\n")


EQUAL = """
import sys
from dataclasses import dataclass
from typing import NamedTuple

n = len(sys.argv[0]) * 0
nan = 1e999 - 1e999


MARK
class Size(BASE):
    width: int
    depth: int = 2
    MORE


def made(width=WIDTH):
    return Size(width)


a, b = made(), made()
THEN
print("equal" if a == b else "other", "other" if a != b else "equal")
"""


def equal(mark="@dataclass", base="", more="", width="1", then=""):
    source = EQUAL.replace("MARK", mark).replace("(BASE)", f"({base})" if base else "").replace("THEN", then)
    return special(source.replace("MORE", more).replace("WIDTH", width))


@pytest.mark.parametrize("given", [{}, {"mark": "", "base": "NamedTuple"}, {"mark": "@dataclass(frozen=True)"}])
def test_records_of_the_same_constants_are_equal(given):
    text = equal(**given)
    assert "Size" not in text
    assert "if" not in text


NEVER = "def __{}__(self, other):\n        return False"


@pytest.mark.parametrize(
    "given",
    [
        {"mark": "@dataclass(eq=False)"},
        {"more": NEVER.format("eq")},
        {"more": NEVER.format("ne")},
        {"more": "__eq__ = object.__eq__"},
        {"then": "Size.__eq__ = object.__eq__"},
        {"then": "a.depth = 3"},
        {"then": "a.depth += n + 1"},
        {"then": "setattr(b, 'width', 2)"},
        {"then": "b = Size(1, 3)"},
        {"then": "b = (1, 2)"},
        {"mark": "", "base": "NamedTuple", "then": "b = a._replace(width=4)"},
        {"mark": "", "base": "NamedTuple", "then": "b = (1, 2)"},
        {"width": "nan"},
        {"width": "n"},
        {"width": "[n]"},
        {"then": "@dataclass\nclass Other(Size):\n    pass\n\n\nb = Other(1)"},
        {"then": "class Other(Size):\n    pass\n\n\nb = Other(1)"},
        {"then": "class Other(Size):\n    pass\n\n\na, b = Other(1), Other(1)", "mark": "@dataclass(eq=False)"},
        {"then": "@dataclass\nclass Other:\n    width: int = 1\n    depth: int = 2\n\n\nb = Other()"},
        {"mark": "def counted(kind):\n    kind.__eq__ = object.__eq__\n    return kind\n\n\n@counted\n@dataclass"},
    ],
)
def test_records_are_compared_where_that_says_something(given):
    equal(**given)


def test_a_field_that_is_gone_is_missed():
    text = special(
        """
from dataclasses import dataclass


@dataclass
class Size:
    width: int


a, b = Size(1), Size(1)
try:
    del a.width
    print(a == b)
except AttributeError:
    print("missed")
"""
    )
    assert "a == b" in text
