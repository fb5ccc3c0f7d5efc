"""Programs whose containers hold other things at other times."""

from __future__ import annotations

import pytest
from submission_programs import special

PROGRAMS = {
    "a key that is there in some cases": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

d = {}
if no:
    d["x"] = 1
print("in" if "x" in d else "out", d.get("x", 5), bool(d))
if d:
    print("full")
""",
    "keywords that are there in some cases": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

def f(x=7):
    return x if x != 1 else "one"
d = {}
if no:
    d["x"] = 1
print(f(**d))
""",
    "a dictionary that is filled later": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

d = {}
e = {"x": 1}
if no:
    d.update(e)
if "x" in d:
    print("in")
else:
    print("out")
""",
    "one place that merges different dictionaries": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

def f(base):
    d = {**base, "y": 2}
    if "x" in d:
        print("has")
    else:
        print("hasnt")
f({"x": 1})
f({"z": 1})
""",
    "containers that lose something": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

d = {"x": 1}
d.pop("x")
print("in" if "x" in d else "out", "full" if d else "empty")
l = [1, 2]
while l:
    l.pop()
print(len(l))
m = [1, 2]
m.clear()
print("full" if m else "empty", len(m))
""",
    "del": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

d = {"x": 1}
del d["x"]
print("in" if "x" in d else "out")
l = [1, 2]
del l[0]
print(l[0], len(l))
""",
    "lists in another order": """
l = [3, 1]
l.sort()
print(l[0] + 1)
m = [3, 1]
m.reverse()
print(m[0] + 1)
m.remove(1)
print(len(m))
m[-1] = 9
print(m[0])
""",
    "evaluated for its error only": """
def isnum(t):
    try:
        float(t)
    except ValueError:
        return False
    return True
print(isnum("x"), isnum("1"))
def isnum2(t):
    try:
        value = float(t)
    except ValueError:
        return False
    return True
print(isnum2("x"))
def has(d, k):
    try:
        d[k]
    except KeyError:
        return False
    return True
print(has({}, 1))
""",
    "match": """
def f(x):
    match x:
        case 1:
            return "one"
        case [a, *b]:
            return a
        case _:
            return "other"
print(f(1), f([2]), f("x"))
""",
    "a loop's variable after the loop": """
import os
yes = len(os.sep) == 1
no = len(os.sep) > 1

for i in range(3):
    if i == 7:
        break
else:
    print("else")
i = None
for i in range(2):
    pass
print(i)
""",
    "a value that is never read but may raise": """
def f(d):
    try:
        x = d["k"]
        return "ok"
    except KeyError:
        return "missing"
print(f({}))
def g(t):
    try:
        n = int(t)
        assert n
    except (ValueError, AssertionError):
        return "bad"
    return "good"
print(g("q"), g("0"), g("1"))
""",
    "several statements on a line": """
x = 1; y = 2
if x: print(1)
if x: print(2); print(3)
else: print(4)
for i in (1, 2): print(i); print(y)
class A: k = 1
def f(a): return a + len(a and [])
print(f([1]) if not x else 5, A.k)
while y: y -= 1; x += 1
print(x)
""",
    "objects that come into a dict all at once": """
class Plain:
    def __init__(self, n):
        self.n = n

    def size(self):
        return self.n


class Corrected(Plain):
    def size(self):
        return self.n * 2

    def more(self):
        return "more"


class Zipped:
    def size(self):
        return "zipped"


class Paired:
    def size(self):
        return "paired"


def corrected(held):
    return {name: Corrected(held[name].n) for name in held}


def main(names):
    held = {}
    for name in names:
        held[name] = Plain(len(name))
    held |= corrected({name: held[name] for name in names if name != "a"})
    held |= zip(["z"], [Zipped()])
    held.update(zip(["p"], [Paired()]))
    for name in sorted(held):
        print(name, held[name].size(), getattr(held[name], "more", str)())


main(["a", "bb"])
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_stays_the_same(name):
    special(PROGRAMS[name])
